"""Runs side by side: one that crashes, exits or finds its disc full touches no other."""

import itertools
import signal
import sys

import pytest

from drillyard.errors import DrillyardError
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.system.clock import SYSTEM
from drillyard.system.processes import marked, send
from drillyard.worker.endings import failed
from drillyard_backends.dask.backend import DaskBackend
from drillyard_backends.dask.client import _clients, _end
from drillyard_backends.local import LocalBackend
from tests.helpers.driven import Place, begin
from tests.helpers.open_drivers import closing
from tests.helpers.patience import PATIENCE_S
from tests.helpers.records import claim_of

WORKLOAD = '''
"""Seed 1 crashes in native code, 2 leaves the process, 3 finds no room; the others are well."""
import ctypes, os
from pathlib import Path
from drillyard.mailbox.records import Manifest
from drillyard.runs.workload import PhaseOutcome

class Rough:
    kind = "rough"
    def check(self, spec, folder): return []
    def preload(self, spec): return ["torch"]
    def freeze(self, spec, seed): return {}

    def train(self, context):
        mine = context.scratch / "mine.txt"
        assert not mine.exists()  # not even what an earlier attempt left
        mine.write_text(context.run.run)
        seed = context.run.seed
        if seed == 1:
            ctypes.string_at(0)
        if seed == 2:
            os._exit(9)
        if seed == 3:
            with open("/dev/full", "w") as file:
                file.write("x" * 100_000)
        ports = [int(os.environ[f"DRILLYARD_{end}_PORT"]) for end in ("FIRST", "LAST")]
        words = f"{context.scratch} {os.getpid()} {os.environ['OMP_NUM_THREADS']}"
        import torch  # the agent has imported it, before this run's number of threads was known
        words += f" {torch.get_num_threads()} {ports[1] - ports[0] + 1}"
        return PhaseOutcome(files=Manifest(files={"w": context.save("w", words.encode())}))

    def evaluate(self, context):
        return PhaseOutcome()
'''


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    runtime = tmp_path / "runtime"
    with closing(monkeypatch):
        yield runtime
    for process in marked(DRILLYARD_LOCAL_RUNTIME=str(runtime)):
        send(process, signal.SIGKILL)
    for client in _clients.values():
        _end(client)
    _clients.clear()
    sys.modules.pop("rough_workload", None)


@pytest.mark.parametrize("kind", [LocalBackend, DaskBackend])
def test_runs_that_crash_leave_their_neighbours_alone(kind, runtime, tmp_path):
    place = Place(tmp_path)
    (place.folder / "rough_workload.py").write_text(WORKLOAD)
    place.backend = lambda: kind(runtime=runtime)
    driver = place.driver(
        name="rough",
        workload="rough_workload:Rough",
        seeds=[1, 2, 3, 4, 5, 6],
        resources={"workers": 2, "threads": 3},
    )
    mailbox = place.mailbox
    # The bad ones lost four attempts before: their fifth and sixth come after short pauses.
    for seed, attempt in itertools.product((1, 2, 3), range(1, 5)):
        claim = claim_of(f"t0001-s{seed}.train", attempt)
        assert mailbox.claim(claim)
        assert mailbox.end(failed(claim, SYSTEM, Cause.INFRASTRUCTURE, "lost"))
    begin(driver)
    words = []
    for seed in range(1, 7):
        ticket = f"t0001-s{seed}.train"
        if seed <= 3:
            with pytest.raises(DrillyardError):
                driver.wait(ticket, PATIENCE_S)
            state = driver.states()[ticket]
            assert (state.status, state.attempt) == (Status.FAILED, 6)
        else:
            assert driver.wait(f"t0001-s{seed}.store", PATIENCE_S).attempt == 1
            accepted = mailbox.accepted(f"t0001-s{seed}", Phase.TRAIN)
            assert accepted is not None and accepted.attempt == 1
            words.append(mailbox.read_file(mailbox.manifest(accepted), "w").decode().split())
    scratch, pids, threads, of_torch, ports = zip(*words, strict=True)
    assert len(set(scratch)) == len(set(pids)) == 3  # a folder and a process of its own
    assert set(threads) == set(of_torch) == {"3"}
    assert set(ports) == {"63"}
    driver.teardown()
    driver.close("done")
    assert list(marked(DRILLYARD_LOCAL_RUNTIME=str(runtime))) == []
