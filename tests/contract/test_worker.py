"""The worker with real processes and a real store: claims, deaths, stops, leaving."""

import json
import os
import platform
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from drillyard.backend import Liveness
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.runs.logs import Tail
from drillyard.system.clock import SYSTEM
from drillyard.system.processes import ProcessId
from drillyard.worker.endings import failed
from drillyard_backends.local import LocalBackend
from tests.helpers.patience import until
from tests.helpers.records import claim_of, driver_of_process
from tests.helpers.toy import ended


def test_a_run_goes_from_train_to_evaluate_and_the_agent_leaves_by_itself(toys, backend):
    toy = toys()
    run = toy.post(phases=(Phase.TRAIN, Phase.EVALUATE), threads=3)
    lease = backend.provision(toy.order())
    toy.until_status(f"{run}.evaluate", Status.SUCCEEDED)
    accepted = toy.mailbox.accepted(run, Phase.EVALUATE)
    seen = toy.mailbox.read_file(toy.mailbox.manifest(accepted), "seen.txt")
    assert seen == b"seen: attempt 1"
    assert (toy.marks / f"{run}.1").read_text().split()[1] == "3"  # threads of run.json
    board = until(lambda: (b := toy.mailbox.board(run)) and b.status is Status.SUCCEEDED and b)
    assert board.phase is Phase.EVALUATE
    toy.nothing_left()  # idle for 0.5 s, no driver: it leaves
    (worker,) = toy.mailbox.workers()
    assert (worker.state, worker.message) == ("leaving", "nothing left to do")
    assert backend.probe(lease) is Liveness.GONE
    assert not (toy.tmp / "runtime" / toy.lease / "scratch").exists()
    logs = [
        toy.mailbox.store.get(info.key).decode()
        for info in toy.mailbox.store.list(toy.mailbox.key(f"runs/{run}/attempts/train-1/logs/"))
    ]
    assert f"hello from {run} attempt 1" in "".join(logs)
    assert "logged from the user's own module" in "".join(logs)


def test_runs_go_side_by_side_up_to_the_slots(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    runs = [toy.post(seed=n, gate=str(gate)) for n in (1, 2, 3)]
    backend.provision(toy.order(workers=2))
    for run in runs[:2]:
        toy.until_status(f"{run}.train", Status.RUNNING)
    toy.pid_of(runs[0], 1), toy.pid_of(runs[1], 1)
    assert toy.state(f"{runs[2]}.train").status is Status.READY
    until(lambda: (b := toy.mailbox.board(runs[0])) and b.beat >= 2 and b.steps_per_s)
    gate.touch()
    for run in runs:
        toy.until_status(f"{run}.train", Status.SUCCEEDED)


def test_a_killed_ticket_is_tried_again_and_accepted_once(toys, backend):
    toy = toys()
    run = toy.post(die=[1], child=True)
    backend.provision(toy.order())
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    first = toy.mailbox.ending(f"{run}.train", 1)
    assert (first.status, first.cause) == (Status.FAILED, Cause.INFRASTRUCTURE)
    assert "SIGKILL" in first.message
    assert toy.mailbox.accepted(run, Phase.TRAIN).attempt == 2
    # The agent shipped what the killed process had printed.
    key = toy.mailbox.key(f"runs/{run}/attempts/train-1/logs/{0:012d}.txt")
    assert "attempt 1" in toy.mailbox.store.get(key).decode()
    child = int((toy.marks / "child").read_text())
    until(lambda: ProcessId.of(child) is None, what="an end of the child that user code left")


def test_infrastructure_attempts_are_counted(toys, backend):
    """Four were lost on machines before this one, which therefore makes short pauses."""
    toy = toys()
    run = toy.post(die=list(range(1, 20)))
    for attempt in range(1, 5):
        claim = claim_of(f"{run}.train", attempt)
        assert toy.mailbox.claim(claim)
        assert toy.mailbox.end(failed(claim, SYSTEM, Cause.INFRASTRUCTURE, "lost"))
    backend.provision(toy.order())
    state = toy.until_status(f"{run}.train", Status.FAILED)
    assert (state.attempt, state.claimable) == (6, None)


@pytest.mark.parametrize(
    ("how", "cause", "text", "attempts"),
    [
        ("value", Cause.USER_ERROR, "ValueError: the tank is empty", 1),
        ("memory", Cause.OUT_OF_MEMORY, "MemoryError: buffer", 2),
        ("exit", Cause.USER_ERROR, "SystemExit: 3", 1),
    ],
)
def test_what_user_code_raises_is_told(toys, backend, how, cause, text, attempts):
    toy = toys()
    run = toy.post(**{"raise": how})
    backend.provision(toy.order())
    state = toy.until_status(f"{run}.train", Status.FAILED)
    assert (state.ending.cause, state.ending.message, state.attempt) == (cause, text, attempts)
    assert "toy_workload.py" in state.ending.traceback


def test_a_scratch_folder_that_somebody_deletes_is_no_fault_of_the_user(toys, backend):
    toy = toys()
    run = toy.post(swept=[1])
    backend.provision(toy.order())
    assert toy.until_status(f"{run}.train", Status.SUCCEEDED).attempt == 2
    ending = toy.mailbox.ending(f"{run}.train", 1)
    assert ending.cause is Cause.INFRASTRUCTURE
    assert "was deleted while it worked there: FileNotFoundError" in ending.message


def test_an_agent_that_can_start_nothing_leaves_the_tickets_to_the_next_one(toys, backend):
    toy = toys()
    lease = backend.provision(toy.order(idle_s=600.0))
    until(lambda: any(w.state == "ready" for w in toy.mailbox.workers()))
    agent = psutil.Process(lease.provider["pid"])
    (socket,) = {c.laddr for p in agent.children() for c in p.net_connections("unix") if c.laddr}
    Path(socket).unlink()  # as a cleaner of temporary files does
    runs = [toy.post(seed=n) for n in (1, 2, 3)]
    until(lambda: backend.probe(lease) is Liveness.GONE)
    (left,) = toy.mailbox.workers()
    assert (left.state, left.message[:27]) == ("leaving", "no process can be started: ")
    backend.provision(toy.order())
    attempts = [toy.until_status(f"{run}.train", Status.SUCCEEDED).attempt for run in runs]
    assert sorted(attempts) == [1, 1, 2]


def test_a_dependent_of_a_failed_ticket_is_over(toys, backend):
    toy = toys()
    run = toy.post(phases=(Phase.TRAIN, Phase.EVALUATE), **{"raise": "value"})
    backend.provision(toy.order())
    state = toy.until_status(f"{run}.evaluate", Status.FAILED)
    assert state.ending.ticket == f"{run}.train"
    toy.nothing_left()


def test_kill_9_of_the_agent_leaves_no_process_and_a_new_one_finishes(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate), child=True)
    lease = backend.provision(toy.order())
    toy.pid_of(run, 1)
    until(lambda: (toy.marks / "child").exists())
    os.kill(lease.provider["pid"], signal.SIGKILL)
    toy.nothing_left()
    assert backend.probe(lease) is Liveness.GONE
    ending = ended(toy, f"{run}.train")
    assert ending.cause is Cause.INFRASTRUCTURE
    gate.touch()
    again = backend.provision(toy.order())
    assert again.provider["pid"] != lease.provider["pid"]
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    assert toy.mailbox.accepted(run, Phase.TRAIN).attempt == 2


def test_a_deaf_ticket_does_not_outlive_its_agent_and_its_claim_is_buried(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate), deaf=True)
    lease = backend.provision(toy.order())
    pid = toy.pid_of(run, 1)
    os.kill(lease.provider["pid"], signal.SIGKILL)
    until(lambda: ProcessId.of(pid) is None, what="an end of the deaf ticket")
    assert toy.mailbox.ending(f"{run}.train", 1) is None
    gate.touch()
    backend.provision(toy.order())
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    buried = toy.mailbox.ending(f"{run}.train", 1)
    assert (
        buried.cause is Cause.INFRASTRUCTURE
        and buried.by != toy.mailbox.read_claim(f"{run}.train", 1).worker
    )


def test_an_attempt_that_wakes_after_it_was_superseded_changes_nothing(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate))
    lease = backend.provision(toy.order())
    pid = toy.pid_of(run, 1)
    zombie = ProcessId.of(pid)
    os.kill(pid, signal.SIGSTOP)
    claim = toy.mailbox.read_claim(f"{run}.train", 1)
    assert toy.mailbox.end(failed(claim, SYSTEM, Cause.INFRASTRUCTURE, "thought dead"))
    toy.until_status(f"{run}.train", Status.RUNNING)
    second = toy.pid_of(run, 2)
    assert second != pid
    until(lambda: toy.mailbox.board(run).attempt == 2)
    # The second attempt waits at the gate as well: hold it, open the gate, wake only the first.
    os.kill(second, signal.SIGSTOP)
    gate.touch()
    os.kill(pid, signal.SIGCONT)
    until(lambda: not zombie.alive(), what="an end of the superseded attempt")
    assert toy.mailbox.accepted(run, Phase.TRAIN) is None
    assert toy.mailbox.board(run).attempt == 2
    os.kill(second, signal.SIGCONT)
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    accepted = toy.mailbox.accepted(run, Phase.TRAIN)
    assert accepted.attempt == 2
    assert toy.mailbox.read_file(toy.mailbox.manifest(accepted), "result.txt") == b"attempt 2"
    backend.teardown(lease)


def test_tickets_start_warm_and_a_module_that_is_missing_hurts_nobody(toys, backend):
    toy = toys()
    runs = [toy.post(seed=1), toy.post(seed=2)]
    backend.provision(toy.order(workers=1, preload=["no_such_module", "colorsys"]))
    for run in runs:
        toy.until_status(f"{run}.train", Status.SUCCEEDED)
        assert (toy.marks / f"{run}.1").read_text().split()[2] == "True"
    first, second = (toy.mailbox.accepted(run, Phase.TRAIN) for run in runs)
    assert second.started_at > first.ended_at


def test_the_pool_comes_back_when_its_server_is_killed(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate))
    backend.provision(toy.order())
    child = ProcessId.of(toy.pid_of(run, 1))
    os.kill(psutil.Process(child.pid).ppid(), signal.SIGKILL)
    until(lambda: not child.alive(), what="an end of the orphan")
    gate.touch()
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    assert toy.mailbox.accepted(run, Phase.TRAIN).attempt == 2


def drive(toy, alive=True):
    me = ProcessId.current()
    toy.mailbox.write(
        "driver/1.json",
        driver_of_process(
            me.pid, host=platform.node(), pid_started=me.started, ended_at=None if alive else 1.0
        ),
    )


def test_a_living_driver_keeps_the_agent_warm(toys, backend):
    toy = toys()
    drive(toy)
    lease = backend.provision(toy.order(idle_s=0.2))
    until(lambda: any(w.state == "ready" for w in toy.mailbox.workers()))
    beats = toy.mailbox.workers()[0].beat
    until(lambda: toy.mailbox.workers()[0].beat >= beats + 3)
    assert backend.probe(lease) is Liveness.ALIVE
    run = toy.post()
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    drive(toy, alive=False)
    toy.nothing_left()


def test_without_a_driver_stop_stops(toys, backend, tmp_path):
    toy = toys(on_driver_loss="stop")
    run = toy.post(gate=str(tmp_path / "gate"))
    drive(toy)
    backend.provision(toy.order())
    toy.pid_of(run, 1)
    drive(toy, alive=False)
    assert ended(toy, f"{run}.train").cause is Cause.CANCELLED
    toy.nothing_left()
    assert "on_driver_loss" in toy.mailbox.cancelled().reason


def test_a_bundle_that_is_missing_ends_the_setup_in_words(toys, backend):
    toy = toys()
    run = toy.post()
    backend.provision(toy.order(code="0" * 64))
    worker = until(lambda: next((w for w in toy.mailbox.workers() if w.state == "leaving"), None))
    assert "code bundle 000000000000 is missing" in worker.message
    toy.nothing_left()
    assert toy.state(f"{run}.train").status is Status.READY


def test_two_provisions_at_once_make_one_agent(toys, tmp_path):
    toy = toys()
    drive(toy)

    def provision(_number):
        return LocalBackend(runtime=tmp_path / "runtime").provision(toy.order())

    with ThreadPoolExecutor(8) as threads:
        leases = list(threads.map(provision, range(8)))
    assert len({json.dumps(lease.provider) for lease in leases}) == 1
    LocalBackend(runtime=tmp_path / "runtime").teardown(leases[0])
    assert toy.processes() == []


@pytest.mark.parametrize("where", ["python", "native", "prints", "one line"])
def test_a_run_that_hangs_is_ended_by_name_and_nothing_is_left(toys, backend, where):
    toy = toys(budget={"stall_s": 1.0})
    run = toy.post(hang=where, child=True)
    backend.provision(toy.order())
    toy.until_status(f"{run}.train", Status.TIMED_OUT)
    ending = toy.mailbox.ending(f"{run}.train", 1)
    assert (ending.status, ending.cause) == (Status.TIMED_OUT, Cause.TIME_LIMIT)
    assert "budget.stall_s" in ending.message
    assert "train" in ending.message or where == "native"
    assert "1,234" in ending.message or where == "native"
    assert toy.mailbox.ending(f"{run}.train", 2) is None  # once is enough
    until(lambda: toy.mailbox.board(run).status is Status.TIMED_OUT or where == "native")
    lines = list(Tail(toy.mailbox, run).new())
    assert any("toy_workload.py" in line and "in train" in line for line in lines)
    child = int((toy.marks / "child").read_text())
    until(lambda: ProcessId.of(child) is None, what="an end of what it started")
    toy.nothing_left()


def test_without_a_limit_a_run_may_take_long(toys, backend, tmp_path):
    toy = toys(budget={"stall_s": None})
    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate))
    backend.provision(toy.order())
    toy.pid_of(run, 1)
    gate.touch()
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
