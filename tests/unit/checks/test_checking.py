"""What is found out before anything is rented."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from drillyard.checks.experiment import check
from drillyard.checks.hosted_copies import listens
from drillyard.checks.refusal import placed, refuse
from drillyard.errors import ControlPlaneError
from drillyard.findings import Finding, Severity
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim
from drillyard.report.html import configuration
from drillyard.results import collect
from drillyard.simulators.hosts.certificates import Identity
from drillyard.spec.load import load
from drillyard.system.files import PRIVATE, write_file
from tests.helpers.fixtures_store import open_box, write_experiment
from tests.helpers.worker_world import World

WORLD = """
import gymnasium as gym, numpy as np
{first}
class W(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed); return np.zeros(1, np.float32), {{}}
    def step(self, a):
        return np.zeros(1, np.float32), 0.0, True, False, {{}}
"""
FILE = """
name: checked
simulator: {{id: "{module}:W"}}
learner: {{algorithm: ppo}}
train: {{steps: 2048}}
{more}
"""


def findings(folder: Path, module: str, first: str, more: str = "") -> dict[str, tuple[str, str]]:
    (folder / f"{module}.py").write_text(WORLD.format(first=first))
    file = folder / "exp.yaml"
    file.write_text(FILE.format(module=module, more=more))
    found = check(load(file), store=str(folder / "runs"))
    found = [f for f in found if f.severity != Severity.OK]
    found.sort(key=lambda f: f.severity == Severity.ERROR)  # of one subject, the error counts
    return {f.subject: (f.severity.value, f.message) for f in found}


def test_what_a_host_lacks_does_not_make_the_backend_s_name_wrong(tmp_path):
    """``(got 'ssh'); allowed: a backend that is ready`` told nobody what to change."""
    file = tmp_path / "exp.yaml"
    file.write_text("name: far\nworkload: mock\nbackend: ssh\n")
    found = Finding(Severity.ERROR, "backend ssh: ssh lab9", "the name is unknown", "spell it")
    one = placed(found, load(file))
    assert (one.subject, one.fix) == ("backend", "spell it")
    assert one.message == "exp.yaml:3: ssh lab9: the name is unknown"


def test_a_folder_that_cannot_be_sent_is_found_before_the_run(tmp_path):
    """``check`` approved of it, and ``run`` refused it."""
    assert "files" not in findings(tmp_path, "sent_world", "")
    (tmp_path / "linked.py").symlink_to(tmp_path / "sent_world.py")
    severity, message = findings(tmp_path, "sent_world", "")["files"]
    assert severity == "error" and "linked.py is a link" in message


def test_what_setup_will_install_is_no_error_here(tmp_path):
    found = findings(
        tmp_path, "needs", "import not_there_yet", "requirements: [not-there-yet==1.0]"
    )
    assert found["simulator"][0] == "warning"
    assert "not_there_yet" in found["simulator"][1]
    assert findings(tmp_path, "needs", "import not_there_yet")["simulator.id"][0] == "error"


def test_user_code_that_exits_is_said(tmp_path):
    found = findings(tmp_path, "leaves", "import sys; sys.exit(0)")
    severity, message = found["simulator.id"]
    assert severity == "error"
    assert message.startswith("exp.yaml:3: your code called sys.exit(0) (got 'leaves:W')")


STUDY = """
name: searched
workload: mock
mock: {{metrics: [score]}}
parameters:
  tunables: {{shape: {{params: {{level: {{type: float, range: [0, 1], default: 0.5}}}}}}}}
  tunable_params: [shape]
seeds: [1, 2, 3]
study: {{chooser: {chooser}, trials: {trials}, objectives: [{{metric: evaluate/score}}]{more}}}
"""


@pytest.mark.parametrize(
    ("chooser", "trials", "by_chance"),
    [
        ("tpe", 8, 10),
        ("tpe", 10, 10),
        ("tpe", 11, None),
        ("nsga2", 30, 30),
        ("nsga2", 31, None),
        ("cma-es", 16, 16),
        ("random", 8, None),
    ],
)
def test_a_model_that_never_chooses_is_said(tmp_path, chooser, trials, by_chance):
    said = of_study(tmp_path, chooser=chooser, trials=trials, more="")
    warned = [f.message for f in said if f.subject == "study.trials"]
    if by_chance is None:
        assert warned == []
    else:
        (message,) = warned
        assert f"{chooser} never chooses: its first {by_chance} trials" in message


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "; then the best of them once more on 3 fresh seeds"),
        (", confirm: 1", "; then the best of them once more on 1 fresh seed"),
        (", confirm: 0", "on 3 seeds each"),
    ],
)
def test_the_run_after_the_last_trial_is_said(tmp_path, more, told):
    (found,) = (
        f for f in of_study(tmp_path, chooser="tpe", trials=12, more=more) if f.subject == "study"
    )
    assert found.message.startswith("12 trials, chosen by tpe, on 3 seeds each")
    assert found.message.endswith(told)


def of_study(folder: Path, **given: object) -> list[Finding]:
    file = folder / "study.yaml"
    file.write_text(STUDY.format(**given))
    return check(load(file), store=str(folder / "runs"))


@pytest.mark.parametrize(("url", "refused"), [("{tmp}/no/such/disk", True), ("{tmp}/new", False)])
def test_a_target_that_could_never_be_written(tmp_path, url, refused):
    url = url.format(tmp=tmp_path)
    found = findings(tmp_path, "fine", "", f"store: [{{url: '{url}'}}]")
    assert ("store[0].url" in found) is refused


def test_the_source_of_an_item_of_a_list_is_that_of_the_list(tmp_path):
    write_experiment(tmp_path, "exp")
    results = collect(open_box(tmp_path, "exp"))
    spec = {**results.spec, "simulator": {"id": "cstr", "wrappers": [{"name": "normalize"}]}}
    shown = configuration(
        type(results)(
            **{
                **vars_of(results),
                "spec": spec,
                "provenance": {"simulator.wrappers": "exp.yaml:7"},
            }
        )
    )[0]
    assert ("simulator.wrappers[0].name", "normalize", "exp.yaml:7") in shown.rows


def vars_of(results: object) -> dict[str, object]:
    import dataclasses

    return {f.name: getattr(results, f.name) for f in dataclasses.fields(results)}  # type: ignore[arg-type]


def test_gpus_that_this_machine_does_not_have(tmp_path, monkeypatch):
    looked_at = []

    def exists(path: Path, **_: object) -> bool:
        looked_at.append(str(path))
        return str(path) != "/dev/nvidiactl" and original(path)

    original = Path.exists
    monkeypatch.setattr(Path, "exists", exists)
    found = findings(tmp_path, "fine2", "", "resources: {gpus: 1}")
    severity, said = found["resources.gpus"]
    assert severity == "error"
    assert "resources.gpus is 1, but this machine has no NVIDIA driver" in said
    assert "/dev/nvidiactl" in looked_at
    assert "resources.gpus" not in findings(tmp_path, "fine2", "", "resources: {workers: 1}")


@pytest.mark.heavy
def test_a_tracking_server_that_is_away_is_no_mistake_of_the_user(tmp_path):
    from drillyard.cli import main

    write_experiment_file = tmp_path / "exp.yaml"
    away = "tracking: {mlflow: 'http://127.0.0.1:9'}"
    write_experiment_file.write_text(
        f"name: x\nsimulator: {{id: cstr}}\nlearner: {{algorithm: ppo}}\n"
        f"train: {{steps: 2048}}\n{away}\n"
    )
    words = ["check", str(write_experiment_file), "--store", str(tmp_path / "runs")]
    assert main.main(words) == 4
    assert main.main([*words, "--offline-ok"]) == 0
    # A mistake beside it decides.
    assert main.main([*words, "--set", "resources.gpus=64"]) == 2
    loaded = load(write_experiment_file)
    with pytest.raises(ControlPlaneError, match="cannot be reached"):
        refuse(check(loaded, store=str(tmp_path / "runs")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            (
                "return np.zeros(1, np.float32), 0.0",
                "raise ValueError('dry')\n        return 0, 0.0",
            ),
            "step 1, copy 0, seed 12345: ValueError: dry",
        ),
        (
            ("return np.zeros(1, np.float32), 0.0", "return np.full(1, np.nan, np.float32), 0.0"),
            "nan as observation[0], at step 1 of episode 1 (copy 0, reset with seed 12345)",
        ),
        (
            ("return np.zeros(1, np.float32), {}", "return np.zeros(1, np.float32)"),
            "not a tuple of the form `(obs, info)`",
        ),
    ],
    ids=["raises", "gives a NaN", "breaks a rule"],
)
def test_a_fault_is_told_once(tmp_path, change, said, request):
    """Our steps and Gymnasium's checker meet the same one."""
    module = "broken_" + request.node.callspec.id.replace(" ", "_")  # imported once a process
    world = WORLD.format(first="").replace(*change)
    assert world != WORLD.format(first="")
    (tmp_path / f"{module}.py").write_text(world)
    (tmp_path / "exp.yaml").write_text(FILE.format(module=module, more=""))
    found = check(load(tmp_path / "exp.yaml"), store=str(tmp_path / "runs"))
    (told,) = [f.message for f in found if f.severity is not Severity.OK]
    assert said in told


def test_a_finding_about_a_host_keeps_its_port_in_its_subject(tmp_path):
    from drillyard.checks.refusal import placed
    from drillyard.findings import Finding, Severity

    (tmp_path / "study.yaml").write_text(STUDY.format(chooser="random", trials=2, more=""))
    loaded = load(tmp_path / "study.yaml")
    found = placed(Finding(Severity.ERROR, "ssh me@lab:2222", "no such file", "look"), loaded)
    assert found.subject == "ssh me@lab:2222" and "2222: no such" not in found.message


HOSTED = FILE.replace(':W"}}', ':W", copies_on: hosts}}')


def test_without_an_invitation_hosts_are_refused_before_anything_is_created(tmp_path, monkeypatch):
    monkeypatch.delenv("DRILLYARD_HOSTS", raising=False)
    (tmp_path / "hosted.py").write_text(WORLD.format(first=""))
    (tmp_path / "exp.yaml").write_text(HOSTED.format(module="hosted", more=""))
    experiment = load(tmp_path / "exp.yaml")
    (problem,) = [f for f in check(experiment) if f.severity is Severity.ERROR]
    assert problem.subject == "simulator.copies_on"
    assert "DRILLYARD_HOSTS does not say" in problem.message
    assert problem.fix is not None and "--invite" in problem.fix


@pytest.mark.heavy
def test_the_port_of_hosts_that_join_is_tried(tmp_path, monkeypatch):
    (tmp_path / "exp.yaml").write_text(HOSTED.format(module="hosted", more=""))
    spec, world = load(tmp_path / "exp.yaml").spec, World("ports")
    spec = spec.model_copy(update={"name": world.mailbox.experiment})
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        write_file(tmp_path / "i.json", Identity.new().to_json(address), PRIVATE)
        monkeypatch.setenv("DRILLYARD_HOSTS", str(tmp_path / "i.json"))
        (taken,) = listens(spec, world.url)
        assert taken.severity is Severity.ERROR and "cannot listen" in taken.message
        assert taken.fix is not None and "end the program" in taken.fix
        run = world.post(1)
        made = Claim(ticket=f"{run}.train", attempt=1, worker="w", token="t", claimed_at=0.0)
        assert world.mailbox.claim(made)
        (ours,) = listens(spec, world.url)
        assert ours.severity is Severity.OK and "a training of this experiment" in ours.message
    MemoryStore.forget(world.url)
    (free,) = listens(spec, world.url)
    assert free.severity is Severity.OK and "join this machine at port" in free.message
