"""`check` predicts the run: what it approves trains, what it refuses is named with a fix."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.helpers.paid_backend  # noqa: F401  registers `paid`
from drillyard.checks import experiment, trial
from drillyard.checks.experiment import check
from drillyard.findings import Finding, Severity
from drillyard.simulators.stress_test import try_limits
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.load import Loaded, load
from tests.helpers import rules
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy
FILE = """
name: odd
simulator: {{id: "{id}", args: {args}}}
learner: {{algorithm: {algorithm}, preset: null}}
train: {{steps: 256}}
evaluate: {{episodes: 1}}
seeds: [1]
tracking: {{mlflow: null, tensorboard: false}}
{more}
"""


def found(folder: Path, algorithm: str = "ppo", more: str = "", **args: Any) -> list[Finding]:
    file = folder / "odd.yaml"
    id_ = args.pop("id", "tests.helpers.odd_worlds:World")
    file.write_text(FILE.format(id=id_, args=args, algorithm=algorithm, more=more))
    return check(load(file), store=str(folder / "runs"), speed=True)


def errors(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.severity is Severity.ERROR]


@pytest.mark.parametrize(
    "observation",
    ["tuple", "dict-nested", "dict-of-tuple", "image-7", "multibinary-2d", "discrete-from-3"],
)
def test_a_legal_observation_trains(tmp_path, observation):
    findings = found(tmp_path, observation=observation)
    assert errors(findings) == []
    assert any("wrote and restored a checkpoint" in f.message for f in findings)


def test_a_replay_buffer_of_a_mapping_is_restored(tmp_path):
    """Its members are named by the keys of the observation."""
    assert errors(found(tmp_path, "dqn", observation="dict-nested")) == []


@pytest.mark.parametrize(
    ("observation", "named"),
    [
        ("empty", "empty"),
        ("dict-empty", "empty"),
        ("text", "Text"),
        ("sequence", "Sequence"),
        ("graph", "Graph"),
        ("oneof", "OneOf"),
        ("dict-with-text", "'mission' is a Text"),
    ],
)
def test_an_observation_that_no_learner_takes_is_refused_by_name(tmp_path, observation, named):
    refused = errors(found(tmp_path, observation=observation))
    assert any(named in error.message and error.fix for error in refused)


@pytest.mark.parametrize("kind", ["NoObservationSpace", "NoActionSpace"])
def test_a_simulator_without_a_space_is_refused(tmp_path, kind):
    (error,) = errors(found(tmp_path, id=f"tests.helpers.odd_worlds:{kind}"))
    assert "space" in error.message
    assert error.fix


def test_an_exception_after_the_first_checks_has_its_line_and_keeps_the_rest(tmp_path):
    findings = found(tmp_path, fault="raise", at=40)
    (error,) = errors(findings)
    assert "odd_worlds.py:" in error.message
    assert "the pump divides by zero" in error.message
    assert any(f.subject == "simulator: observation space" for f in findings)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("exit", "sys.exit(7)"), ("hang", "odd_worlds.py:")],
)
def test_however_a_simulator_ends_the_other_findings_stay(tmp_path, fault, said):
    more = "budget: {check_s: 15}"
    findings = found(tmp_path, more=more, fault=fault, at=130)  # in `try_limits`
    (error,) = errors(findings)
    assert said in error.message
    assert any(f.subject == "simulator: observation space" for f in findings)


def checked(folder: Path, id: str, more: str = "", **args: Any) -> str:
    """What the command says: where other threads are, as in this process, a check cannot fork."""
    (folder / "odd.yaml").write_text(FILE.format(id=id, args=args, algorithm="ppo", more=more))
    done = run_process(
        [Path(sys.executable).with_name("drillyard"), "check", folder / "odd.yaml"],
        cwd=folder,
        more={"PYTHONPATH": rules.path(Path(__file__).parents[3])},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout


def test_a_crash_ends_no_command_and_the_other_findings_stay(tmp_path):
    said = checked(tmp_path, "tests.helpers.odd_worlds:World", fault="crash", at=130)
    assert "SIGABRT" in said and "simulator: observation space" in said


def test_a_crash_that_only_the_training_meets_is_a_finding(tmp_path):
    (tmp_path / "late.py").write_text(
        "import os, sys\n"
        "from tests.helpers.odd_worlds import World\n"
        "class Late(World):\n"
        "    def step(self, action):\n"
        "        if 'torch' in sys.modules:\n"
        "            os.abort()\n"
        "        return super().step(action)\n"
    )
    said = checked(tmp_path, "late:Late")
    assert "SIGABRT" in said and "simulator: observation space" in said


@pytest.mark.parametrize("in_training", [False, True], ids=["in the check", "in the training"])
def test_a_simulator_that_hangs_is_told_with_its_line(tmp_path, in_training):
    when = "'torch' in sys.modules" if in_training else "self.count > 130"
    (tmp_path / "late.py").write_text(
        "import sys, time\n"
        "from tests.helpers.odd_worlds import World\n"
        "class Late(World):\n"
        "    count = 0\n"
        "    def step(self, action):\n"
        "        self.count += 1\n"
        f"        if {when}:\n"
        "            self.wait()\n"
        "        return super().step(action)\n"
        "    def wait(self):\n"
        "        while True:\n"
        "            time.sleep(0.01)\n"
    )
    said = checked(tmp_path, "late:Late", more="budget: {check_s: 4}")
    assert "no sign of life for 4 s in: " in said
    assert "(late.py:12, in wait)" in said


def test_what_a_simulator_prints_is_counted_and_not_shown(tmp_path, capfd):
    findings = found(tmp_path, fault="print")
    assert errors(findings) == []
    (printed,) = (f for f in findings if f.subject == "simulator: output")
    assert "the first: a line of the simulator" in printed.message
    shown = capfd.readouterr()
    assert "a line of the simulator" not in shown.out + shown.err


def test_a_trial_is_made_once_for_code_and_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.py").write_text("from tests.helpers.odd_worlds import World\n")

    def trial() -> str:
        (said,) = (f.message for f in found(tmp_path, id="mine:World") if f.subject == "training")
        return said

    assert "tried before" not in trial()
    assert "tried before" in trial()
    (tmp_path / "mine.py").write_text("from tests.helpers.odd_worlds import World\n# changed\n")
    assert "tried before" not in trial()


PLANT = """
from pathlib import Path

import gymnasium
import numpy as np


class Plant(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self):
        assert Path("tables/pump.csv").read_text() == "1"
        assert Path(__file__).with_name("pump.txt").read_text() == "1"
        Path("run.log").open("a").close()
        self.mesh = (Path("mesh.grid").read_bytes(), Path("tables/{unread}").exists())
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {{}}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == 20, False, {{}}
"""


def test_a_relative_name_means_the_folder_of_the_file_in_each_row(tmp_path, monkeypatch):
    """It worked or failed with the folder in which the command ran, and failed in a run."""
    folder = tmp_path / "project"
    (folder / "tables").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    files = {"tables/pump.csv": "1", "pump.txt": "1", "mesh.grid": "m", "tables/other.grid": "o"}
    for name, text in {**files, "run.log": "l"}.items():
        (folder / name).write_text(text)
    (folder / "relative_plant.py").write_text(PLANT.format(unread="other.grid"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    findings = found(folder, id="relative_plant:Plant")
    assert errors(findings) == []
    assert Path.cwd() == tmp_path / "elsewhere" and not list(Path.cwd().iterdir())
    # What the short training opened travels from now on, whatever its ending.
    (training,) = (f.message for f in findings if f.subject == "training")
    assert "it opened mesh.grid: travels too from now on" in training
    travels, stays = (f for f in findings if f.subject == "files")
    assert "mesh.grid" in travels.message and "other.grid" not in travels.message
    assert "run.log (its ending)" in travels.message  # it was written
    assert stays.severity is Severity.WARNING and "tables/other.grid (0.0 kB)" in stays.message
    assert "files: [tables/other.grid]" in str(stays.fix)
    again = found(folder, id="relative_plant:Plant")
    assert any("mesh.grid" in f.message for f in again if f.subject == "files")
    assert errors(again) == [] and any("tried before" in f.message for f in again)
    # What was opened is remembered for this file: elsewhere it is tried again.
    copied = found(shutil.copytree(folder, tmp_path / "copy"), id="relative_plant:Plant")
    assert any("it opened mesh.grid" in f.message for f in copied)
    # A home that cannot be written to remembers nothing, and this is said.
    monkeypatch.setenv("DRILLYARD_HOME", str(folder / "pump.txt" / "home"))
    (_, stays) = (f for f in found(folder, id="relative_plant:Plant") if f.subject == "files")
    assert "files: [mesh.grid, tables/other.grid]" in str(stays.fix)


@pytest.mark.parametrize(
    ("id_", "args"),
    [
        ("tests.helpers.odd_worlds:odd/World-v0", {"length": 7}),
        ("tests.helpers.odd_worlds:made", {"length": 7}),
    ],
)
def test_a_registered_id_and_a_function_take_keyword_arguments(tmp_path, id_, args):
    assert errors(found(tmp_path, id=id_, **args)) == []


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        ("tests.helpers.odd_worlds:nothing_made", "returned a int, not a gymnasium.Env"),
        ("tests.helpers.odd_worlds:odd/Wrold-v0", "does not register it"),
        ("no_such_package:Some-Id-v0", "no_such_package"),
    ],
)
def test_an_id_that_leads_nowhere_is_refused(tmp_path, id_, said):
    (error,) = errors(found(tmp_path, id=id_))
    assert said in error.message
    assert error.fix


@pytest.mark.parametrize(("length", "warned"), [(10**9, True), (30, False)])
def test_episodes_that_nothing_ends_are_warned_of(length, warned):
    simulator = SimulatorSpec(id="tests.helpers.odd_worlds:World", args={"length": length})
    said = [f for f in try_limits(simulator) if "never ends" in f.message]
    assert bool(said) is warned
    assert all(f.severity is Severity.WARNING and "time_limit" in str(f.fix) for f in said)


def test_a_training_that_needs_too_much_memory_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(trial, "MEMORY", 1e-6)
    (error,) = errors(found(tmp_path))
    assert "GiB of memory" in error.message
    assert "buffer_size" in str(error.fix)
    # A rented machine may have the memory that this one lacks.
    rented = found(tmp_path, more="backend: paid\nbudget: {max_hours: 1, max_cost: 10}")
    assert errors(rented) == []
    assert any("was not tried" in f.message for f in rented if f.severity is Severity.WARNING)


@pytest.mark.parametrize(("backend", "tries"), [("local", 0), ("paid", 1)])
def test_run_tries_the_training_only_before_it_rents(tmp_path, monkeypatch, backend, tries):
    made: list[Loaded] = []
    monkeypatch.setattr(experiment, "try_training", lambda loaded: made.append(loaded) or [])
    file = tmp_path / "odd.yaml"
    more = f"backend: {backend}\nbudget: {{max_hours: 1, max_cost: 10}}"
    file.write_text(FILE.format(id="CartPole-v1", args={}, algorithm="ppo", more=more))
    findings = check(load(file), store=str(tmp_path / "runs"))  # as `run` calls it
    assert errors(findings) == []
    assert len(made) == tries
