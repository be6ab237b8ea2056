"""What `drillyard check` finds at a simulator's limits, and what the scaffold sees of one."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.authoring.scaffold import around
from drillyard.authoring.scaffold.looking import look
from drillyard.errors import ConfigError, UserError
from drillyard.findings import Finding, Severity
from drillyard.simulators.stress_test import try_limits
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.watchdog import listen


class Lift:
    """Height follows what it is driven by; a cable tears where it is driven hard for long."""

    def __init__(self, tears: bool = False) -> None:
        self.tears, self.height, self.steps, self.pull = tears, 0.0, 0, 0

    def reset(self, config: dict[str, Any]) -> dict[str, Any]:
        if config.get("load", 1.0) > 4.0:
            raise ValueError("too heavy to lift")
        self.height, self.steps, self.pull = config.get("height", 2.0), 0, 0
        return self.see()

    def step(self, actions: dict[str, Any]) -> dict[str, Any]:
        self.height += 0.2 * actions["motor"]
        self.steps += 1
        self.pull = self.pull + 1 if actions["motor"] >= 1.0 else 0
        if self.tears and self.pull > 30:
            raise RuntimeError("cable torn")
        return self.see()

    def see(self) -> dict[str, Any]:
        return {"height": self.height, "goal": 3.0, "steps": self.steps}

    def terminated(self) -> bool:
        return False

    def truncated(self) -> bool:
        return self.steps >= 50


def lift(observes: dict[str, Any], lesson: dict[str, Any] | None = None, **args: Any) -> Any:
    return SimulatorSpec.model_validate(
        {
            "id": f"{__name__}:Lift",
            "args": args,
            "lesson": lesson or {},
            "agent": {
                "observes": observes,
                "acts": {"motor": {"min": -1, "max": 1}},
                "reward": "-abs(height - goal)",
            },
        }
    )


GOOD = {"height": {"min": -9, "max": 14}}


def said(found: list[Finding], severity: Severity) -> str:
    return "\n".join(f"{f.subject}: {f.message}" for f in found if f.severity is severity)


def test_good_ranges_and_a_good_lesson_are_said():
    found = try_limits(lift(GOOD, {"height": {"min": 0, "max": 4}, "load": {"values": [1, 2]}}))
    assert [f.severity for f in found] == [Severity.OK] * 3
    text = said(found, Severity.OK)
    assert "height went from -9." in text and "of -9 to 14" in text
    assert "4 episodes began at the ends of 2 keys" in text


def test_what_is_clipped_and_what_hardly_moves_is_a_note():
    narrow = {"height": {"min": 0, "max": 3}, "goal": {"min": 0, "max": 10}}
    text = said(try_limits(lift(narrow)), Severity.WARNING)
    assert "of 0 to 3, and is clipped in" in text
    assert "goal went from 3 to 3 of 0 to 10: less than 10% of the range" in text


def test_only_extreme_actions_show_some_faults():
    text = said(try_limits(lift(GOOD, tears=True)), Severity.ERROR)
    assert "step 31, acting always the highest, seed" in text and "cable torn" in text


def test_an_end_of_the_lesson_that_cannot_be_begun_is_named():
    reports: list[str] = []
    with listen(reports.append):
        text = said(try_limits(lift(GOOD, {"load": {"min": 1, "max": 5}})), Severity.ERROR)
    assert "load = 5.0: " in text and "too heavy to lift" in text
    # The last report names a reset that hangs.
    assert reports[-1] == "reset, an episode with load = 5.0"


@pytest.mark.parametrize("name", ["cstr", "simple-adder", "building"])
def test_the_built_ins_stand_their_limits(name):
    found = try_limits(SimulatorSpec(id=name))
    assert not said(found, Severity.ERROR)


SOURCE = """
class Pump:
    def reset(self, config):
        self.flow, self.n = config.get("flow", 2.5), 0
        self.target = config["target"] if "target" in config else 4.0
        return self.see()

    def step(self, actions):
        self.flow += 0.5 * actions["valve"] - 0.1 * actions["drain"]
        self.n += 1
        return self.see()

    def see(self):
        return {"flow": self.flow, "target": self.target, "minute": self.n, "name": "p1"}

    def terminated(self):
        return False

    def truncated(self):
        return self.n >= 30
"""


@pytest.fixture
def pump(tmp_path, monkeypatch):
    file = tmp_path / "pump_of_test.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return file


def test_names_are_found_by_trying(pump):
    found = look(pump, None)
    assert found.id == "pump_of_test:Pump" and found.acts == ["valve", "drain"]
    assert found.resets == {"flow": 2.5} and found.ends
    assert {s.name: s.counts for s in found.states} == {
        "flow": False,
        "target": False,
        "minute": True,
    }
    flow = found.states[0]
    assert flow.range[0] <= flow.low < flow.high <= flow.range[1]
    assert found.reward() == "-abs(flow - target)"


def test_actions_that_may_not_be_negative_are_tried_from_zero(tmp_path, monkeypatch):
    file = tmp_path / "pump_with_root.py"
    file.write_text(
        SOURCE.replace('0.5 * actions["valve"]', '__import__("math").sqrt(actions["valve"])')
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = look(file, None)
    assert found.lowest == 0 and found.steps == 120
    around("my-root", found, tmp_path)
    assert "valve: {min: 0, max: 1" in (tmp_path / "my-root.yaml").read_text()


def test_a_file_that_pythons_own_module_hides_is_refused(tmp_path):
    (tmp_path / "math.py").write_text(SOURCE)
    with pytest.raises(UserError, match=r"math\.py has the name of a module"):
        look(tmp_path / "math.py", None)


def test_an_experiment_is_written_around_it_and_nothing_over_anything(pump):
    made = around("my-pump", look(pump, None), pump.parent)
    text = (pump.parent / "my-pump.yaml").read_text()
    assert 'id: "pump_of_test:Pump"' in text and "logs: [minute]" in text
    assert pump.read_text() == SOURCE and len(made.parts) == 7
    with pytest.raises(UserError, match="already exists"):
        around("my-pump", look(pump, None), pump.parent)
    (pump.parent / "my-pump.yaml").unlink()
    with pytest.raises(UserError, match=r"test_my_pump\.py already exists"):
        around("my-pump", look(pump, None), pump.parent)
    assert not (pump.parent / "my-pump.yaml").exists()
    with pytest.raises(ConfigError):
        around("My Pump", look(pump, None), pump.parent)


@pytest.mark.parametrize(("end", "longest"), [("30", 1000), ("1e9", 200)])
def test_an_experiment_says_how_long_an_episode_is_and_what_a_resume_does(
    end, longest, tmp_path, monkeypatch
):
    file = tmp_path / f"pump_that_ends_{longest}.py"
    file.write_text(SOURCE.replace("30", end))
    monkeypatch.syspath_prepend(tmp_path)
    around("my-end", look(file, None), tmp_path)
    text = (tmp_path / "my-end.yaml").read_text()
    assert f"    max_episode_steps: {longest}  # guess: " in text
    assert "`state()` and `load_state(state)`" in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('actions["valve"] - 0.1 * actions["drain"]', "1", "read no action by name"),
        ("self.n += 1", "self.n += 1 / 0", "raised at step 1 of episode 1: ZeroDivisionError"),
        ("self.n += 1", "self.n += one", "NameError: name 'one' is not defined (/"),
        ("return self.see()", "return [1]", "reset() returned a list instead of a dict of states"),
        ("n += 1\n        return", "n += 1\n       ", "step() returned None instead of a dict"),
        (
            "def reset(self, config)",
            "def __init__(self, size): ...\n    def reset(self, config)",
            "cannot be created without arguments",
        ),
        ("def truncated", "def over", "no single class with reset, step, terminated, truncated"),
    ],
)
def test_what_cannot_be_tried_is_said(tmp_path, monkeypatch, old, new, words):
    name = f"bad_pump_{abs(hash(new))}"
    (tmp_path / f"{name}.py").write_text(SOURCE.replace(old, new))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        look(tmp_path / f"{name}.py", None)
    assert words in str(caught.value) and caught.value.hint
