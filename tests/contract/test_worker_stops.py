"""Workers that are told to stop: cancelled, drained, torn down, at the end of their time."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from drillyard.backend import Liveness
from drillyard.mailbox.records import Cancel
from drillyard.mailbox.status import Cause, Status
from drillyard.system.processes import ProcessId
from tests.helpers.patience import until
from tests.helpers.toy import ended


def cancel(toy, drain=False):
    toy.mailbox.write(
        "control/cancel.json",
        Cancel(reason="the user asked for it", by="test", drain=drain, written_at=0.0),
    )


def test_cancel_stops_what_runs_and_takes_nothing_new(toys, backend, tmp_path):
    toy = toys()
    runs = [toy.post(seed=n, gate=str(tmp_path / "gate")) for n in (1, 2)]
    backend.provision(toy.order(workers=1))
    toy.pid_of(runs[0], 1)
    cancel(toy)
    ending = ended(toy, f"{runs[0]}.train")
    assert (ending.cause, ending.message) == (Cause.CANCELLED, "the user asked for it")
    toy.nothing_left()
    for run in runs:
        assert toy.state(f"{run}.train").status is Status.CANCELLED
    assert toy.mailbox.read_claim(f"{runs[1]}.train", 1) is None
    # The same command again: the order is cleared, and the work goes on.
    toy.mailbox.store.delete(toy.mailbox.key("control/cancel.json"))
    (tmp_path / "gate").touch()
    backend.provision(toy.order())
    for run in runs:
        toy.until_status(f"{run}.train", Status.SUCCEEDED)


def test_drain_lets_running_tickets_finish(toys, backend, tmp_path):
    toy = toys()
    gate = tmp_path / "gate"
    runs = [toy.post(seed=n, gate=str(gate)) for n in (1, 2)]
    backend.provision(toy.order(workers=1))
    toy.pid_of(runs[0], 1)
    cancel(toy, drain=True)
    beat = toy.mailbox.board(runs[0])
    until(lambda: (b := toy.mailbox.board(runs[0])) and b.beat > (beat.beat if beat else 0) + 1)
    gate.touch()
    toy.until_status(f"{runs[0]}.train", Status.SUCCEEDED)
    toy.nothing_left()
    assert toy.state(f"{runs[1]}.train").status is Status.CANCELLED


def test_teardown_leaves_no_process_and_the_ticket_can_go_on(toys, backend, tmp_path):
    toy = toys()
    run = toy.post(gate=str(tmp_path / "gate"), child=True)
    lease = backend.provision(toy.order())
    toy.pid_of(run, 1)
    until(lambda: (toy.marks / "child").exists())
    assert [found.lease_id for found in backend.leases()] == [toy.lease]
    backend.teardown(lease)
    assert toy.processes() == []
    assert list(backend.leases()) == []
    child = ProcessId.of(int((toy.marks / "child").read_text()))
    assert child is None
    ending = toy.mailbox.ending(f"{run}.train", 1)
    assert ending.cause is Cause.PREEMPTION
    assert toy.state(f"{run}.train").claimable == 2
    assert any("is ready" in line for line in backend.logs(lease))
    backend.teardown(lease)


def begun_in_time(toy, backend, run, **more):
    """Rent a lease that ends soon after the run began, however slow this machine is."""

    def claimed():
        return toy.mailbox.read_claim(f"{run}.train", 1) is not None

    for limit_s in (3.0, 30.0, 300.0):
        lease = backend.provision(toy.order(deadline=time.time() + limit_s, **more))
        until(lambda lease=lease: claimed() or backend.probe(lease) is Liveness.GONE)
        if claimed():
            return
    raise AssertionError("no worker began within 300 s")


def test_the_deadline_of_the_lease_ends_it(toys, backend, tmp_path):
    toy = toys()
    run = toy.post(gate=str(tmp_path / "gate"))
    begun_in_time(toy, backend, run)
    ending = ended(toy, f"{run}.train")
    assert ending.cause is Cause.TIME_LIMIT
    toy.nothing_left()
    assert toy.state(f"{run}.train").status is Status.TIMED_OUT


def test_the_limit_that_ended_a_lease_is_named(toys, backend, tmp_path):
    toy = toys()
    run = toy.post(gate=str(tmp_path / "never"))
    begun_in_time(toy, backend, run, deadline_of="budget.max_hours = 0.001")
    toy.until_status(f"{run}.train", Status.TIMED_OUT)
    ending = toy.mailbox.ending(f"{run}.train", 1)
    assert ending.message == "budget.max_hours = 0.001 ended the lease"
    assert "raise that limit" in ending.hint
    toy.nothing_left()


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="nothing tells who waits")
@pytest.mark.parametrize("busy", [True, False])
def test_a_store_that_hangs_does_not_hold_up_the_end(toys, backend, tmp_path, busy):
    """A disk of a server that is away: a read never comes back, and nobody can be asked."""
    toy = toys()
    run = toy.post(gate=str(tmp_path / "gate"), child=True) if busy else None
    backend.provision(toy.order(idle_s=600.0))
    if busy:
        toy.pid_of(run, 1)
    (worker,) = until(toy.mailbox.workers)
    until(lambda: toy.mailbox.workers()[0].state == "ready")
    order = toy.mailbox.store.path(toy.mailbox.key("control/cancel.json"))
    order.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(order)
    until(lambda: waits_for_a_writer(worker.pid), what="a read that never comes back")
    os.kill(worker.pid, signal.SIGTERM)
    toy.nothing_left()


def waits_for_a_writer(pid):
    """Whether a thread of a process waits for the other end of a FIFO, as the kernel calls it."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/wchan"):
        with contextlib.suppress(OSError):
            found.append(task.read_text())
    return "wait_for_partner" in found
