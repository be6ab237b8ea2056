"""A pid in a record proves a death only on the system that wrote it; else heartbeats decide."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from drillyard.backend import Liveness, Order
from drillyard.errors import AlreadyDriven, ControlPlaneError
from drillyard.leases.ledger import Intent, Ledger
from drillyard.leases.lost_attempts import MENTIONED_S, SILENT_S, LostAttemptCloser
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import STALE_S, DriverLock, host, living
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, DriverRecord, Phase, TicketRecord, WorkerRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.testing.clock import FakeClock
from tests.helpers.processes import run_process
from tests.helpers.tiny_backend import ThreadBackend

LEASE = "dy-0123456789"
TICKET = "t0001-s1.train"
URL = "memory://process-records"
DEAD = {"pid": 4_100_000, "pid_started": 1.0}
"""No process of this machine has such a start time, whoever has the pid."""
HERE = {"boot_id": boot_id(), "pid_namespace": pid_namespace()}
ELSEWHERE = [
    pytest.param({}, id="old record"),
    pytest.param({**HERE, "boot_id": "another-boot"}, id="another boot"),
    pytest.param({**HERE, "pid_namespace": 1}, id="another pid namespace"),
    pytest.param({**HERE, "boot_id": None}, id="no boot id"),
]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mailbox(clock):
    yield Mailbox(MemoryStore(URL, clock), "x")
    MemoryStore.forget(URL)


def driver(mailbox, **more):
    values = {"host": host(), "token": "t", "started_at": 0.0, "written_at": 0.0, **DEAD, **more}
    record = DriverRecord(number=1, **values)
    mailbox.write("driver/1.json", record)
    return DriverRecord.from_bytes(mailbox.store.get(mailbox.key("driver/1.json")))


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_driver_of_another_system_lives_as_long_as_its_heartbeat_is_fresh(mailbox, clock, where):
    record = driver(mailbox, **where)
    clock.advance(STALE_S - 1.0)
    assert living(mailbox, record)
    clock.advance(2.0)
    assert not living(mailbox, record)


def test_a_driver_of_this_system_is_dead_with_its_process(mailbox):
    assert not living(mailbox, driver(mailbox, **HERE))


def test_a_driver_that_is_this_process_lives_however_long_it_was_silent(mailbox, clock):
    lock = DriverLock(mailbox, clock)
    record = lock.take(["test"])
    clock.advance(10 * STALE_S)
    assert living(mailbox, record)
    assert (record.boot_id, record.pid_namespace) == (boot_id(), pid_namespace())


def worker(mailbox, **more):
    values = {"host": host(), **DEAD, **more}
    record = WorkerRecord(worker=f"{LEASE}-w", lease=LEASE, written_at=0.0, **values)
    mailbox.write(f"workers/{record.worker}.json", record)
    order = Order(lease_id=LEASE, experiment="x", store_url=URL)
    intent = Intent(order=order, backend="thread", ordinal=1, written_at=0.0)
    mailbox.write(f"leases/{LEASE}/intent.json", intent)
    mailbox.post(
        TicketRecord(ticket=TICKET, run="t0001-s1", phase=Phase.TRAIN, order=0, posted_at=0.0)
    )
    claim = Claim(ticket=TICKET, attempt=1, worker=record.worker, token="t", claimed_at=0.0)
    mailbox.claim(claim)


def watch(mailbox, clock, backend, seconds):
    """A closer that has looked again and again for so long."""
    closer = LostAttemptCloser(mailbox, backend, Ledger(mailbox, clock), "test", clock)
    closer.close_lost(ticket_states(mailbox))
    for _ in range(4):
        clock.advance(seconds / 4)
        closer.close_lost(ticket_states(mailbox))
    return closer


def close_lost(mailbox, clock, liveness, seconds=SILENT_S + 1.0):
    backend = ThreadBackend()
    backend.probe = lambda lease, ticket=None: liveness
    watch(mailbox, clock, backend, seconds)
    return mailbox.ending(TICKET, 1)


@pytest.mark.parametrize("where", ELSEWHERE)
def test_an_attempt_on_another_system_is_lost_only_by_silence_and_its_provider(
    mailbox, clock, where
):
    worker(mailbox, **where)
    assert close_lost(mailbox, clock, Liveness.GONE, SILENT_S - 1.0) is None
    assert close_lost(mailbox, clock, Liveness.ALIVE) is None
    assert close_lost(mailbox, clock, Liveness.UNKNOWN) is None
    assert "silent" in close_lost(mailbox, clock, Liveness.GONE).message


def test_an_attempt_that_waits_for_a_silent_machine_is_mentioned_once(mailbox, clock, caplog):
    """Or the last progress of its run would be printed for hours, and nothing else."""
    worker(mailbox)
    backend = ThreadBackend()
    backend.probe = lambda lease, ticket=None: Liveness.UNKNOWN
    closer = watch(mailbox, clock, backend, SILENT_S + 1.0)
    said = []
    for passed_s in (MENTIONED_S - SILENT_S - 2.0, 2.0, 1000.0):
        clock.advance(passed_s)
        closer.close_lost(ticket_states(mailbox))
        said.append(len(caplog.records))
    assert said == [0, 1, 1]
    assert f"{TICKET} waits: its worker" in caplog.text and "no heartbeat for" in caplog.text


def test_an_attempt_on_this_system_is_lost_with_its_process(mailbox, clock):
    worker(mailbox, **HERE)
    assert "is dead" in close_lost(mailbox, clock, Liveness.UNKNOWN).message


class Explains(ThreadBackend):
    """Its provider says why a machine is gone, or does not answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def probe(self, lease, ticket_id=None):
        return Liveness.GONE

    def lost_to(self, lease, ticket_id):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Cause.PREEMPTION, Cause.PREEMPTION),
        (Cause.INFRASTRUCTURE, Cause.INFRASTRUCTURE),
        (ControlPlaneError("away"), Cause.INFRASTRUCTURE),
    ],
    ids=["taken away", "failed", "no answer"],
)
def test_a_machine_that_its_provider_took_back_counts_as_a_preemption(
    mailbox, clock, answer, cause
):
    """Such losses have a larger budget of attempts than crashes have."""
    worker(mailbox)
    watch(mailbox, clock, Explains(answer), SILENT_S + 1.0)
    assert mailbox.ending(TICKET, 1).cause is cause
    preempted = cause is Cause.PREEMPTION
    assert (ticket_states(mailbox)[TICKET].status is Status.PREEMPTED) is preempted


CONTAINER = [
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child=SIGKILL",
]
DRIVE = """
import sys, time
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DriverLock
lock = DriverLock(Mailbox(open_store(sys.argv[1]), "x"))
lock.take(["in a container"])
print("drives", flush=True)
sys.stdin.readline()
"""


def container_works():
    if shutil.which(CONTAINER[0]) is None:
        return False
    return run_process([*CONTAINER, "true"]).returncode == 0


@pytest.mark.heavy
@pytest.mark.skipif(not container_works(), reason="no pid namespaces for this user (unshare)")
def test_a_driver_in_a_container_on_this_host_is_not_taken_over(tmp_path):
    """Finding L3: same host name, its own pid table. Its pid is not ours to look up."""
    mailbox = Mailbox(open_store(str(tmp_path)), "x")
    command = [*CONTAINER, sys.executable, "-c", DRIVE, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as inside:
        try:
            assert inside.stdout.readline() == "drives\n"
            (record,) = mailbox.drivers()
            assert record.host == host()
            assert record.pid_namespace != pid_namespace()
            with pytest.raises(AlreadyDriven):
                DriverLock(mailbox).take(["outside"])
        finally:
            inside.send_signal(signal.SIGTERM)
            inside.stdin.close()
            inside.kill()


@pytest.mark.heavy
def test_the_identity_of_this_system_is_known_here():
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux tells it in /proc")
    assert boot_id() and pid_namespace()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if pid_namespace() == HERE["pid_namespace"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
