"""A world in one thread with a clock of its own, in which real workers do played tickets.

Everything that has a ``step`` is an actor: it is called when it wants to be, in the order of time.
The mailbox, the worker, the sidecar of each ticket and the handing in are the product's; the store
can be away, and a ticket's process is an object. A step whose store calls take long happens at
once, and its actor is not called again before they would have come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import DrillyardError, StoreUnavailable, Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.patience import PERSIST_S
from drillyard.mailbox.records import (
    Cancel,
    Ending,
    ExperimentRecord,
    Manifest,
    Phase,
)
from drillyard.runs.workload import PhaseOutcome, StopSignal
from drillyard.testing.clock import FakeClock
from drillyard.worker import endings
from drillyard.worker.execution import REPORTED, UNREPORTED
from drillyard.worker.hand_in import HandIn
from drillyard.worker.machine import Exit, Job
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.sidecar import TicketSidecar
from drillyard.worker.worker import Worker
from tests.helpers.records import ticket_of

LEASE = "dy-0123456789"
Step = Callable[[float], float | None]


class Actor:
    """Something with a step, called when it is due."""

    def __init__(self, name: str, step: Step) -> None:
        self.name = name
        self.step = step
        self.due_s = 0.0
        self.busy_until_s = 0.0
        """Until then its last call has not come back."""
        self.gone = False


class World:
    """Time, a store, and who acts.

    Args:
        name: Of the store.
    """

    def __init__(self, name: str) -> None:
        self.clock = FakeClock()
        self.url = f"memory://{name}"
        MemoryStore.forget(self.url)
        self.store = FaultyStore(self)
        self.mailbox = Mailbox(MemoryStore(self.url, self.clock), "x")
        self.trace: list[tuple[float, str]] = []
        """When who acted, for comparing two runs."""
        self._actors: list[Actor] = []
        self._start = self.clock.now()
        self._call_took_s = 0.0
        record = ExperimentRecord(name="x", spec={}, identity="x", created_at=0.0)
        self.mailbox.write("experiment.json", record)

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.clock.now() - self._start

    def add(self, name: str, step: Step, in_s: float = 0.0) -> Actor:
        """Let somebody act."""
        actor = Actor(name, step)
        actor.due_s = self.now + in_s
        self._actors.append(actor)
        return actor

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Do something once, at a time of this world."""

        def once(now: float) -> None:
            action()

        self.add("script", once, time_s - self.now)

    def wake(self, actor: Actor) -> None:
        """Have an actor called as soon as its last call is back."""
        actor.due_s = min(actor.due_s, max(self.now, actor.busy_until_s))

    def take_time(self, seconds: float) -> None:
        """The step that acts now takes longer by this: its actor is called later."""
        self._call_took_s += seconds

    def run(self, until_s: float) -> None:
        """Let time pass: whoever is due first acts first, and of several whoever came first."""
        while self._actors:
            actor = min(self._actors, key=lambda one: one.due_s)
            if actor.due_s > until_s:
                break
            self.clock.advance(max(0.0, actor.due_s - self.now))
            self._act(actor)
            self._actors = [one for one in self._actors if not one.gone]
        self.clock.advance(max(0.0, until_s - self.now))

    def _act(self, actor: Actor) -> None:
        self.trace.append((round(self.now, 6), actor.name))
        actor.due_s, self._call_took_s = float("inf"), 0.0
        wait_s = actor.step(self.clock.monotonic())
        if wait_s is None:
            actor.gone = True
            return
        actor.busy_until_s = self.now + self._call_took_s
        # Whoever wakes it in its own step wakes it for the next one.
        actor.due_s = actor.busy_until_s + max(0.001, min(wait_s, actor.due_s - self.now))

    # -- what people and drivers do -----------------------------------------------------------

    def post(self, seed: int, phases: Sequence[Phase] = (Phase.TRAIN,)) -> str:
        """Post the tickets of a run."""
        run = run_id(1, seed)
        before: list[str] = []
        for phase in phases:
            ticket = ticket_id(run, phase)
            record = ticket_of(run, phase, after=before, order=seed)
            self.mailbox.post(record)
            before = [ticket]
        return run

    def cancel(self, drain: bool = False) -> None:
        """Order everything to stop."""
        order = Cancel(reason="enough", by="test", drain=drain, written_at=0.0)
        self.mailbox.write("control/cancel.json", order)


class FaultyStore(MemoryStore):
    """The store as workers see it: away for a while, slow, and with its reads counted.

    Attributes:
        away: Nothing is answered; each call takes ``patience_s`` to find out.
        patience_s: Seconds that a call tries before it gives up.
        tries: Calls that gave up.
        reads: How often an object was read, by its key.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.url, world.clock)
        self._world = world
        self.away = False
        self.patience_s = 0.0
        self.tries = 0
        self.reads: Counter[str] = Counter()

    def _reach(self) -> None:
        if not self.away:
            return
        self.tries += 1
        self._world.take_time(self.patience_s)
        raise StoreUnavailable("the store is away")

    def get(self, key):
        self._reach()
        self.reads[key] += 1
        return super().get(key)

    def put(self, key, data):
        self._reach()
        super().put(key, data)

    def put_if_absent(self, key, data):
        self._reach()
        return super().put_if_absent(key, data)

    def stat(self, key):
        self._reach()
        return super().stat(key)

    def list(self, prefix):
        self._reach()
        return super().list(prefix)


class PlayedTicket:
    """The process of a ticket: its sidecar and its handing in are real, the work is time.

    Args:
        machine: Where it runs.
        job: What it was told.
    """

    def __init__(self, machine: PlayedMachine, job: Job) -> None:
        self.job = job
        world = machine.world
        self._machine = machine
        self._clock = world.clock
        self._mailbox = Mailbox(world.store, job.experiment)
        self._stop = StopSignal()
        self._progress = ProgressKeeper(job.ticket, job.claim, self._clock)
        shipper = job.shipper(self._mailbox)
        self._sidecar = TicketSidecar(
            self._mailbox, job.claim, self._stop, self._progress, shipper, None, self._clock
        )
        self._exit: Exit | None = None
        self._began = self._clock.monotonic()
        self._began_at = self._clock.now()
        self._hand_in: HandIn | None = None
        self._ending: Ending | None = None
        self._trying_since: float | None = None
        self.deaf = machine.deaf
        self.asked_at: float | None = None
        self.asked_after_tries = 0
        self.killed_at: float | None = None
        self._actors = [
            world.add(f"sidecar {job.ticket.ticket}", self._sidecar.step),
            world.add(f"ticket {job.ticket.ticket}", self._work),
        ]
        self.others = [PlayedTicket(machine, other) for other in job.others]
        """The other tickets of the same process, which ends with the last of them."""

    def _work(self, now: float) -> float | None:
        """Look at the signal, work for the time that the machine says, hand in, end."""
        try:
            if self._ending is None and self._stop.requested and not self.deaf:
                cause, reason = self._stop.cause, self._stop.reason
                if not self._sidecar.superseded:
                    self._ending = endings.failed(self.job.claim, self._clock, cause, reason)
            if self._ending is None:
                if self._sidecar.superseded:
                    return self._end(REPORTED)
                if now - self._began < self._machine.work_s:
                    return 0.5
                if self._hand_in is None:
                    self._hand_in = HandIn(
                        self._mailbox,
                        self.job.claim,
                        self.job.ticket,
                        PhaseOutcome(files=Manifest()),
                        self._began_at,
                        self._clock,
                    )
                self._ending = self._hand_in()
            self._mailbox.end(self._ending)
        except Superseded:
            return self._end(REPORTED)
        except DrillyardError:
            self._trying_since = now if self._trying_since is None else self._trying_since
            if now - self._trying_since > PERSIST_S:
                return self._end(UNREPORTED)
            return 1.0
        return self._end(REPORTED)

    def _end(self, code: int) -> None:
        self._exit = Exit(code)
        for actor in self._actors:
            actor.gone = True
        self._machine.wake()

    @property
    def alive(self) -> bool:
        return self.poll() is None

    def poll(self) -> Exit | None:
        exits = [each._exit for each in (self, *self.others)]
        if None in exits:
            return None
        return next((exit for exit in exits if exit.code != REPORTED), self._exit)

    def ask_to_stop(self, cause, reason) -> None:
        self.asked_at = self._machine.world.now
        self.asked_after_tries = self._machine.world.store.tries
        self._stop.set(cause, reason)
        for other in self.others:
            other.ask_to_stop(cause, reason)

    def kill(self, code: int = -9) -> None:
        for other in self.others:
            other.kill(code)
        if self._exit is None:
            self.killed_at = self._machine.world.now
            self._end(code)


class PlayedMachine:
    """A machine whose processes are objects.

    Args:
        world: Where.
        slots: Tickets at once.
        work_s: Seconds that each ticket takes.
    """

    def __init__(self, world: World, slots: int, work_s: float) -> None:
        self.world = world
        self.slots = slots
        self.usage = None
        self.work_s = work_s
        self.deaf = False
        self.warm = True
        self.install_s = 0.0
        self.unprepared: list[Exception] = []
        """What goes wrong while it is set up, in this order; then nothing."""
        self.prepared_times = 0
        self.broken: Exception | None = None
        self.tickets: list[PlayedTicket] = []
        self.worker: Actor | None = None
        self._asked_at = 0.0
        self.closed = False

    def prepare(self, mailbox, order) -> None:
        self._asked_at = self.world.now
        self.prepared_times += 1

    def prepared(self):
        if self.prepared_times <= len(self.unprepared):
            raise self.unprepared[self.prepared_times - 1]
        return () if self.world.now - self._asked_at >= self.install_s else None

    def gpus(self):
        return ()

    def start(self, job: Job) -> PlayedTicket:
        if self.broken is not None:
            raise self.broken
        self.tickets.append(PlayedTicket(self, job))
        return self.tickets[-1]

    def remove(self, job: Job) -> None:
        pass

    def wake(self) -> None:
        if self.worker is not None and not self.worker.gone:
            self.world.wake(self.worker)

    def wait(self, timeout_s: float) -> None:
        raise AssertionError("a step does not wait")

    def close(self) -> None:
        self.closed = True


class PlayedWorker:
    """A real worker in a world, with the loops around it: steps, heartbeat, and its end.

    Attributes:
        ended_at: Seconds of the world when its process ended; None while it runs.
    """

    def __init__(
        self,
        world: World,
        *,
        slots: int = 1,
        work_s: float = 10.0,
        order=None,
        make=Worker,
        **options,
    ) -> None:
        self.world = world
        self.machine = PlayedMachine(world, slots, work_s)
        values = {"idle_s": 5.0, **(order or {})}
        rented = Order(lease_id=LEASE, experiment="x", store_url=world.url, **values)
        self.worker = make(
            rented,
            Path("/nowhere"),
            slots,
            world.clock,
            machine=self.machine,
            store=world.store,
            **options,
        )
        self.ended_at: float | None = None
        self._beat = world.add("heartbeat", self.worker.heart.step)
        self.machine.worker = world.add("worker", self.worker.step)
        world.add("end", self._hurry)

    def _hurry(self, now: float) -> float | None:
        wait_s = self.worker.hurry(now)
        if wait_s is None:
            self.machine.close()
            self._beat.gone = True
            self.machine.worker.gone = True
            for ticket in self.machine.tickets:
                ticket.kill()  # a process ends with its worker
            self.ended_at = self.world.now
        return wait_s

    def terminate(self) -> None:
        """SIGTERM."""
        self.worker.terminate()


class PlayedPusher:
    """Whoever hands tickets to a worker: a list of what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def listen(self, hand, gone) -> None:
        self.hand, self.gone = hand, gone

    def over(self, ticket, status) -> None:
        self.heard.append((ticket, status.value))
