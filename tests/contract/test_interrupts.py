"""Ctrl-C, SIGTERM and cancellation at each caller of ``drive``, in each phase.

The stop order is written, the machines are confirmed to be gone, the driver is closed, and the
same call goes on at once, in the same process where the process continues.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flows.conftest import lease_processes
from tests.helpers import rules
from tests.helpers.patience import PATIENCE_S, until

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[2]
WORK = "script: {run: [[sh, -c, 'touch {in}; while [ ! -e {gate} ]; do sleep 0.05; done']]}"
FILES = {
    "plain": """
name: held
workload: script
{work}
tracking: {{mlflow: null}}
""",
    "study": """
name: held
workload: script
{work}
parameters:
  tunables: {{shape: {{params: {{level: {{type: float, range: [0, 1], default: 0.5}}}}}}}}
  tunable_params: [shape]
study: {{chooser: random, trials: 1, objectives: [{{metric: score, direction: max}}]}}
tracking: {{mlflow: null}}
""",
    "stages": """
name: held
workload: composite
tracking: {{mlflow: null}}
children:
  - {{name: first, workload: script, resources: {{workers: 1}}, {work}}}
  - {{name: last, workload: script, after: [first], script: {{run: [['true']]}}}}
""",
}
STUDY_WORK = (
    "script: {run: [[sh, -c, 'touch {in}; while [ ! -e {gate} ]; do sleep 0.05; done; "
    "echo score=$level']], results: {stdout: '^(\\w+)=(\\S+)$'}}"
)


@dataclass
class Caller:
    """A process that calls, and the experiment that it drives."""

    folder: Path
    kind: str
    what: str
    env: dict[str, str]
    child: subprocess.Popen[str] | None = None

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def start(self, hold: str | None = None) -> subprocess.Popen[str]:
        work = STUDY_WORK if self.what == "study" else WORK
        work = work.replace("{in}", str(self.folder / "in-training"))
        work = work.replace("{gate}", str(self.folder / "gate"))
        project = self.folder / "project"
        project.mkdir(exist_ok=True)
        (project / "held.yaml").write_text(FILES[self.what].format(work=work))
        if hold in ("provision", "teardown"):
            (self.folder / f"hold-{hold}").touch()
        if hold == "teardown":
            (self.folder / "gate").touch()
        given = [self.kind, "held.yaml", str(self.store), str(self.folder)]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.interrupted", *given],
            cwd=project,
            env={**os.environ, "PYTHONPATH": rules.path(ROOT), **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        return self.child

    def reached(self, phase: str) -> None:
        assert self.child is not None
        child = self.child
        until(
            lambda: (self.folder / f"in-{phase}").exists() or child.poll() is not None, what=phase
        )
        assert child.poll() is None, child.communicate()

    def orders(self) -> list[Path]:
        return list(self.store.glob("*/control/cancel.json"))

    def left(self) -> list[str]:
        """Leases, drivers and processes that are not known to have ended."""
        leases = [p for p in self.store.glob("*/leases/*") if p.is_dir()]
        assert leases
        found = [f"lease {p.name}" for p in leases if not (p / "gone.json").exists()]
        found += [f"processes of {p.name}" for p in leases if lease_processes(p.name)]
        for folder in self.store.glob("*/driver"):
            newest = max(folder.iterdir(), key=lambda path: int(path.stem))
            if json.loads(newest.read_text())["ended_at"] is None:
                found.append(str(newest))
        return found

    def torn_down_s(self, since: float) -> float:
        """Seconds from a moment until the last lease was known to be gone."""
        gone = [path.stat().st_mtime for path in self.store.glob("*/leases/*/gone.json")]
        took = max(gone) - since
        print(f"{self.kind} {self.what}: gone {took:.1f} s after the signal")
        return took

    def again(self) -> None:
        """The same command, in another process."""
        (self.folder / "gate").touch()
        out, err = self.start().communicate(timeout=PATIENCE_S)
        assert self.child is not None and self.child.returncode == 0, out + err


@pytest.fixture
def caller(tmp_path, request):
    kind, what = request.param
    made = Caller(tmp_path, kind, what, {"DRILLYARD_HOME": str(tmp_path / "home")})
    yield made
    for path in tmp_path.glob("hold-*"):
        path.unlink()
    (tmp_path / "gate").touch()
    if made.child is not None:
        made.child.kill()
        made.child.communicate()
    for lease in made.store.glob("*/leases/*"):
        for pid in lease_processes(lease.name):
            os.kill(pid, signal.SIGKILL)


RAISED = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "SystemExit 143"}
CALLERS = [
    ("program", "plain"),
    ("program", "study"),
    ("program", "stages"),
    ("thread", "plain"),
    ("thread", "stages"),
    ("command", "plain"),
    ("command", "stages"),
]
CORE = {("program", "stages", "training", signal.SIGTERM)}
LIMIT_S = 60.0
"""Seconds from the signal to the confirmed teardown."""


def _cases() -> list[object]:
    cases: list[object] = []
    for kind, what in CALLERS:
        for phase in ("provision", "training", "teardown"):
            for number in (signal.SIGINT, signal.SIGTERM):
                case = (kind, what, phase, number)
                marks = () if case in CORE else (pytest.mark.extended,)
                name = f"{kind}-{what}-{phase}-{number.name}"
                cases.append(pytest.param((kind, what), phase, number, id=name, marks=marks))
    return cases


@pytest.mark.parametrize(("caller", "phase", "number"), _cases(), indirect=["caller"])
def test_an_interrupt_ends_what_was_rented_and_the_same_call_goes_on(caller, phase, number):
    (caller.folder / "once").touch()
    child = caller.start(phase)
    caller.reached(phase)
    child.send_signal(number)
    signalled = time.time()
    until(lambda: caller.orders() or child.poll() is not None, what="the order to stop")
    for path in caller.folder.glob("hold-*"):
        path.unlink()
    _, err = child.communicate(timeout=PATIENCE_S)
    assert caller.orders(), err
    assert caller.left() == [], err
    assert caller.torn_down_s(signalled) < LIMIT_S
    if caller.kind == "command":
        # While the first stage is torn down, the second one has not begun.
        complete = phase == "teardown" and caller.what != "stages"
        assert child.returncode == (0 if complete else 130), err
        assert "Traceback" not in err
    else:
        raised = (caller.folder / "raised").read_text()
        assert raised == (RAISED[number] if caller.kind == "program" else "KeyboardInterrupt")
    caller.again()
    assert caller.left() == []


@pytest.mark.parametrize("caller", [("program", "plain")], indirect=True)
def test_the_same_call_goes_on_in_the_same_process(caller):
    child = caller.start()
    caller.reached("training")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, out.strip()) == (0, "SUCCEEDED"), err
    assert (caller.folder / "raised").read_text() == "KeyboardInterrupt"
    assert caller.left() == []


@pytest.mark.extended
@pytest.mark.parametrize("caller", [("program", "plain")], indirect=True)
def test_a_machine_that_does_not_answer_is_given_back_within_a_minute(caller):
    (caller.folder / "once").touch()
    child = caller.start()
    caller.reached("training")
    (lease,) = caller.store.glob("*/leases/*")
    for pid in lease_processes(lease.name):
        os.kill(pid, signal.SIGSTOP)
    child.send_signal(signal.SIGINT)
    signalled = time.time()
    _, err = child.communicate(timeout=PATIENCE_S)
    assert caller.left() == [], err
    assert caller.torn_down_s(signalled) < LIMIT_S


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(("program", "plain"), marks=pytest.mark.extended),
        pytest.param(("program", "stages"), marks=pytest.mark.extended),
        ("command", "plain"),
    ],
    indirect=True,
)
def test_a_second_ctrl_c_leaves_at_once_and_names_what_is_rented(caller):
    """The provider never confirms the end: only a second Ctrl-C ends the wait."""
    (caller.folder / "once").touch()
    child = caller.start()
    caller.reached("training")
    (caller.folder / "hold-teardown").touch()
    child.send_signal(signal.SIGINT)
    caller.reached("teardown")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE_S)
    lease = next(caller.store.glob("*/leases/*")).name
    assert child.returncode in (130, -signal.SIGINT), err
    assert f"still rented: {lease} on local" in err
    assert "drillyard cancel held" in err
    (caller.folder / "hold-teardown").unlink()
    caller.again()
    assert caller.left() == []
