"""The machine of a simulated worker: its tickets are simulated processes on the same host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause
from drillyard.simulators.hosts.posted import PostedInvitation, path_of
from drillyard.system.clock import SYSTEM
from drillyard.system.utilisation import Monitor
from drillyard.worker import execution
from drillyard.worker.machine import Exit, Job
from tests.simulation.patches import current, world
from tests.simulation.threads import Event
from tests.simulation.world import Process


class Pipe:
    """The end of a pipe that a ticket's process reads."""

    def __init__(self) -> None:
        self._items: list[tuple[Cause, str]] = []
        self._closed = False
        self._news = Event()

    def send(self, item: tuple[Cause, str]) -> None:
        """Write to it."""
        self._items.append(item)
        self._news.set()

    def close(self) -> None:
        """The writer is gone."""
        self._closed = True
        self._news.set()

    def recv(self) -> tuple[Cause, str]:
        """Read from it."""
        while not self._items:
            if self._closed:
                raise EOFError
            self._news.clear()
            self._news.wait()
        return self._items.pop(0)


class SimTicketProcess:
    """See ``TicketProcess``."""

    def __init__(self, job: Job, worker: Process, woken: Event) -> None:
        self._job = job
        self._pipe = Pipe()
        job.scratch.mkdir(parents=True, exist_ok=True)
        self._process = world().spawn(
            worker.host,
            "ticket",
            lambda _: _do(job, self._pipe),
            worker.mark,
        )
        self._process.parent = worker
        self._process.attempt = (job.claim.ticket, job.claim.attempt)
        self._process.on_death.append(woken.set)
        worker.on_death.append(self._pipe.close)

    @property
    def job(self) -> Job:
        """Its job."""
        return self._job

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.alive

    def poll(self) -> Exit | None:
        """How it ended."""
        if self._process.alive:
            return None
        code = self._process.result
        return Exit(code if isinstance(code, int) else -9)

    def ask_to_stop(self, cause: Cause, reason: str) -> None:
        """Ask it to stop."""
        self._pipe.send((cause, reason))

    def kill(self) -> None:
        """End it."""
        self._process.die()


def _do(job: Job, pipe: Pipe) -> int:
    """What a ticket's process does: it prints, and a training may invite hosts of copies."""
    with open(job.log_path, "a", encoding="utf-8") as file:
        file.writelines(f"attempt {job.claim.attempt}, line {n}\n" for n in range(3))
    if world().plan.hosts and job.ticket.phase is Phase.TRAIN:
        invitation = PostedInvitation(
            addresses=["127.0.0.1:1"],
            certificate="",
            token="0" * 32,
            number=1,
            written_at=SYSTEM.now(),
        )
        try:
            mailbox = Mailbox(open_store(job.store_url), job.experiment)
            mailbox.write(path_of(job.ticket.run, job.claim.attempt), invitation)
        except InfrastructureError:
            pass  # nobody hosts for this attempt
    return execution.execute(job, pipe)  # type: ignore[arg-type]


class SimHost:
    """See ``subprocess.Popen``: a host of copies, which ends with its worker.

    In place of ``drillyard.simulators.hosts.providers.start_host``.
    """

    def __init__(self, _invitation: Path, name: str, **_: object) -> None:
        now, worker = world(), current()
        assert worker is not None
        lives_s, self._code = now.random.choice(
            [(1e9, 0), (1e9, 0), (20.0, 0), (3.0, 1), (3.0, 2)]
        )

        def body(_: Process) -> object:
            now.sleep(lives_s)
            return self._code

        self._process = now.spawn(worker.host, "host", body, worker.mark)
        worker.on_death.append(self._process.die)

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return None if self._process.alive else self._code

    wait = poll

    def terminate(self) -> None:
        """End it, at once or in some seconds; a few do not end by themselves."""
        after_s = world().random.choice([0.0, 2.0, 60.0])
        world().at(world().time + after_s, self._process.die)

    def kill(self) -> None:
        """End it at once."""
        self._process.die()


class SimMachine:
    """See ``Machine``.

    Args:
        slots: Tickets at once.
        process: The worker's process.
    """

    def __init__(self, slots: int, process: Process) -> None:
        self.slots = slots
        self.usage: Monitor | None = None
        self._process = process
        self._woken = Event()
        self._ready_at = 0.0
        self._tickets: list[SimTicketProcess] = []

    def prepare(self, mailbox: Mailbox, order: Order) -> None:
        """Start to warm up."""
        self._ready_at, self._mailbox = world().time + 1.0, mailbox

    def prepared(self) -> tuple[Path, ...] | None:
        """Whether it is warm, and has read the code from the store."""
        if world().time < self._ready_at:
            return None
        self._mailbox.store.stat(self._mailbox.key("experiment.json"))
        return ()

    warm = True

    def gpus(self) -> Sequence[str]:
        """None."""
        return ()

    def start(self, job: Job) -> SimTicketProcess:
        """Start a ticket's process."""
        ticket = SimTicketProcess(job, self._process, self._woken)
        self._tickets.append(ticket)
        return ticket

    def remove(self, job: Job) -> None:
        """Its folder stays until the schedule ends."""

    def wake(self) -> None:
        """Make the loop call the step now."""
        self._woken.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for something to happen here."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def close(self) -> None:
        """End what is left."""
        for ticket in self._tickets:
            ticket.kill()
