"""Drives one experiment: posts its tickets, rents, watches, closes lost attempts, tears down.

``driver.six_phases.drive`` calls the parts in order. After a crash at any point, the same command
adopts living leases, skips accepted results and resumes the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from drillyard.backend import Backend, Lease
from drillyard.driver import resume_checks
from drillyard.driver.heartbeat import Heartbeat
from drillyard.driver.launcher import Launcher
from drillyard.driver.lease_supervisor import LeaseSupervisor
from drillyard.driver.reconcile import reconcile
from drillyard.driver.rental import Rental
from drillyard.driver.setup import SETUP_TIMEOUT_S, Setup
from drillyard.driver.stop_order import StopOrder
from drillyard.driver.teardown import TEARDOWN_TIMEOUT_S, Teardown
from drillyard.driver.timings import PhaseTimes
from drillyard.driver.verified_results import VerifiedResults
from drillyard.driver.watcher import Paced, Tender, Watcher
from drillyard.driver.work_list import WorkList
from drillyard.errors import DrillyardError, InfrastructureError, Superseded, TimedOut
from drillyard.leases.ledger import Ledger
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.leases.manager import LeaseManager
from drillyard.leases.places import Places
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.driver_lock import DriverLock, host
from drillyard.mailbox.fenced import Fenced
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.records import Accepted, Board, TicketRecord, WorkerRecord
from drillyard.mailbox.store_clock import StoreClock
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs import submit, webhook, wheels
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import Loop, run_steps

if TYPE_CHECKING:
    from drillyard.runs.code_archive import Bundle
    from drillyard.spec.load import Loaded

log = logging.getLogger(__name__)


class Driver:
    """One experiment's driver; thread-safe after ``open``.

    Args:
        loaded: The experiment as read from its file.
        mailbox: The mailbox of the experiment.
        backend: Where capacity is rented: a backend, or several places in turn.
        clock: For waiting and durations. Times in records and deadlines are the store's.
        on_line: Called with a sentence about each thing that the driver does.
        allow_change: Continue although the settings of training changed (``--allow-change``).
        by_request: Do only what ``request`` names, until ``release``.
    """

    def __init__(
        self,
        loaded: Loaded,
        mailbox: Mailbox,
        backend: Backend | Places,
        *,
        clock: Clock = SYSTEM,
        on_line: Callable[[str], None] | None = None,
        allow_change: bool = False,
        by_request: bool = False,
    ) -> None:
        self.loaded = loaded
        self.spec = loaded.spec
        self.mailbox = mailbox
        self.places = places = Places.only(backend, self.spec)
        self.clock = clock = StoreClock(mailbox.store, clock)
        self.say = on_line or log.info
        """Reports a sentence to the user."""
        self._allow_change = allow_change
        self._lock = DriverLock(mailbox, clock, say=self.say)
        self.ledger = Ledger(Fenced(mailbox, self._lock.must_drive), clock)
        self.stopping = StopOrder(mailbox, self._lock, clock)
        self._watcher = Watcher(mailbox, clock)
        self._wanted = WorkList(
            self.spec,
            mailbox,
            self._watcher.states,
            stopped=self.stopping.seen,
            spent=self.ledger.spent,
            say=self.say,
            must_drive=self._lock.must_drive,
            clock=clock,
            by_request=by_request,
        )
        self.by_request = by_request
        self.request, self.release = self._wanted.request, self._wanted.release
        self.study = self._wanted.study
        self._leases = LeaseManager(mailbox, places, self.ledger, clock, self.say)
        self._rental = Rental(self.spec, mailbox, self._leases, self._wanted)
        by = f"driver on {host()}"
        self._closer = LostAttemptCloser(mailbox, places, self.ledger, by, clock)
        self._keeper = LeaseSupervisor(
            self._leases,
            self._rental,
            places,
            self._lock,
            self._wanted,
            Launcher(mailbox, places, self._leases.only_open, clock),
            self._closer,
            self.stopping,
            say=self.say,
        )
        beats = Heartbeat(self._lock, self._watcher.fail, pace(mailbox.store)).step
        self._heartbeat = Loop("drillyard-heartbeat", beats, clock)
        self._loops: list[Loop] = []
        self.times = PhaseTimes(clock)
        self._results = VerifiedResults(mailbox)
        self._rented_at: float | None = None
        self.adopts: bool | None = None
        """Whether leases of an earlier driver were open before this one rented; None: unknown."""

    def open(self) -> list[TicketRecord]:
        """Become the driver and post the open tickets.

        Returns:
            Open tickets in queue order. If there are none, and it is not ``held``, every result is
            accepted and verified, nothing was rented, leases of earlier drivers are torn down, and
            this driver is closed.

        Raises:
            IdentityChanged: Another experiment under the same name, or other major versions.
            CheckpointRefused: A checkpoint that must not be resumed from.
            AlreadyDriven: Another driver is alive.
            UserError: The changes affect runs that workers are working on.
        """
        with self.times.of("prepare"):
            if ":" in self.spec.workload:
                submit.on_path(self.loaded.folder)
            self.places.prepare_store(self.mailbox.store.url)
            url = webhook.webhook(self.spec)
            bundle = submit.pack(self.loaded, self.mailbox)
            self._lock.check_free()
            plan = self._plan(bundle)  # refuse before anything is created
            resume_checks.refuse(
                self.loaded,
                self.mailbox,
                plan.before,
                plan.record.versions,
                [run for run, _, _ in submit.runs(self._wanted.trials())],
                allow_change=self._allow_change,
            )
            self._lock.take(list(self.loaded.command))
            self._heartbeat.start()
            try:
                webhook.keep(self.mailbox, url, self.clock)
                todo = reconcile(
                    self._plan(bundle),
                    self.spec,
                    self.mailbox,
                    self._closer,
                    self._end_leases,
                    self._wanted.trials,
                    self._wanted.settled,
                    self.say,
                    self._lock.must_drive,
                    self.clock,
                )
                if self.study is not None:
                    self.study.begin()
                    todo = [s.ticket for s in self._wanted.read().values() if not s.status.ended]
                if todo or (self.held and self._wanted.remaining_runs()):
                    self._begin_loops()
                    return todo
                self.release()
                self._end_leases()
            except BaseException:
                self.close("refused")
                raise
        self.close("complete")
        return []

    def provision(self) -> Lease:
        """Rent capacity, or adopt a living lease; returns at once, safe to call again.

        Raises:
            TimedOut: The budget is used up.
            InfrastructureError: The provider cannot be reached.
        """
        with self.times.of("provision"):
            self._lock.must_drive()
            if self.adopts is None:
                self.adopts = any(entry.open for entry in self.ledger.entries())
            lease = self._rental.rent()
        self._rented_at = self._rented_at or self.clock.now()
        return lease

    def begin_setup(self, timeout_s: float = SETUP_TIMEOUT_S) -> Setup:
        """The wait for the workers, in steps; see ``Setup``."""
        return Setup(
            self.mailbox,
            self.places,
            self._leases,
            self._keeper,
            self._wanted,
            self.stopping.check,
            timeout_s,
        )

    def setup(self, timeout_s: float = SETUP_TIMEOUT_S) -> list[WorkerRecord]:
        """Wait for the workers to be ready; a lease that dies meanwhile is replaced twice.

        Raises:
            RunFailed: A worker could not be set up; with its message.
            WorkerLost: Leases died repeatedly, or the workers were not ready in time.
            Stopped: ``stop`` was called.
        """
        waiting = self.begin_setup(timeout_s)
        with self.times.of("setup"):
            run_steps(waiting.step, self.clock)
        self.workers_ready(waiting.ready)
        return waiting.ready

    def workers_ready(self, workers: list[WorkerRecord]) -> None:
        """Count the time of set-up, from the start of renting."""
        ready_at = max((w.ready_at or 0.0 for w in workers), default=0.0)
        if self._rented_at is not None:
            self.times.at_least("setup", ready_at - self._rented_at)

    def wait(self, ticket: str, timeout_s: float | None = None) -> Accepted:
        """Wait for a ticket's result, every file of it verified.

        Args:
            ticket: Its id.
            timeout_s: Seconds after which it raises; the work continues.

        Raises:
            RunFailed: The user's code failed, or no attempts are left.
            TimedOut: A budget or ``timeout_s`` ended.
            Stopped: The experiment was stopped; it can be resumed.
            WorkerLost: No attempts are left, because machines died.
            CorruptObject: The result differs from what was written.
            Superseded: Another driver took over.
        """
        try:
            state = self._watcher.future(ticket).result(timeout_s)
        except TimeoutError:
            raise TimedOut(
                f"{ticket} was not done after {timeout_s:.0f} s",
                hint="the limit follows from budget.max_hours or train.max_time_s, or is a month; "
                "run the same command to continue",
            ) from None
        return self.result(state)

    def result(self, state: TicketState) -> Accepted:
        """The result of a ticket that has ended, every file of it verified.

        Args:
            state: Its final state.

        Raises:
            DrillyardError: Why there is no result; see ``wait``.
        """
        return self._results.of(state)

    def stop(self, reason: str, drain: bool = False) -> None:
        """Ask all workers to stop: waiting tickets are cancelled, running ones end soon.

        Args:
            reason: For people.
            drain: Let running tickets finish.
        """
        self.stopping.give(reason, drain)

    def begin_teardown(self, timeout_s: float = TEARDOWN_TIMEOUT_S) -> Teardown:
        """The teardown, in steps; see ``Teardown``."""
        return Teardown(self._leases, self._keeper, self._lock.must_drive, self.say, timeout_s)

    def teardown(self, timeout_s: float = TEARDOWN_TIMEOUT_S) -> None:
        """End every lease of the experiment, until the provider lists none of them.

        Safe to repeat, and to call from several places (a flow's ``finally``, its hooks). It does
        nothing if another driver took over, because the machines belong to that driver.

        Raises:
            TeardownUnconfirmed: Something may still be running; results are intact.
        """
        ending = self.begin_teardown(timeout_s)
        try:
            with self.times.of("teardown"):
                run_steps(ending.step, self.clock)
        finally:
            ending.abandon()

    def close(self, outcome: str) -> None:
        """End this driver: its record, its timings, its thread; safe to call again.

        Args:
            outcome: Text for the record: ``done``, ``failed``, ``cancelled`` …
        """
        if self.study is not None:
            self.study.close()
        for loop in self._loops:
            loop.stop()
        self._watcher.fail(Superseded("this driver was closed"))
        self._heartbeat.stop()
        if self._lock.number:
            try:
                self.save_timings()
                if outcome in ("succeeded", "complete") and self.spec.requirements:
                    wheels.sweep(self.mailbox)
            finally:
                self._lock.release(outcome)
            if outcome != "refused":
                self._sweep()
                if self.spec.notify is not None:
                    self._notify()

    def save_timings(self) -> None:
        """Write ``timings/<n>.json`` as of now, for a report that is built before ``close``."""
        self.times.save(self.mailbox, self._lock.number)

    # -- looking ------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The driver's number, as in ``driver/<n>.json``."""
        return self._lock.number

    @property
    def holds_machines(self) -> bool:
        """Whether a lease of the experiment is open; reads the ledger."""
        return any(entry.open for entry in self.ledger.entries())

    @property
    def lease(self) -> Lease | None:
        """The present lease."""
        return self._leases.lease

    @property
    def backend(self) -> Backend:
        """The backend of the present lease; without a lease, the first one."""
        lease = self.lease
        return self.places.backend_of(lease) if lease else self.places.all[0].backend

    @property
    def trouble(self) -> DrillyardError | None:
        """The error that ended all waiting before every ticket was decided; None: none."""
        return self._watcher.error

    @property
    def patience_s(self) -> float:
        """How long a store may be away, in seconds, before waiting ends undecided."""
        return self._watcher.patience_s

    def on_change(self, call: Callable[[], None]) -> None:
        """Have something called, in any thread, whenever a ticket changed."""
        self._watcher.on_change = call

    @property
    def changes(self) -> int:
        """Grows whenever a ticket changed, or was requested."""
        return self._watcher.changes + self._wanted.requests

    @property
    def began(self) -> bool:
        """Whether it watches tickets: it was opened, and something was to do."""
        return bool(self._loops)

    @property
    def held(self) -> bool:
        """Whether a program may still request phases."""
        return self._wanted.held

    @property
    def decided(self) -> bool:
        """True if no ticket of the experiment can change again, so that leases may end."""
        return self._wanted.decided

    @property
    def over(self) -> bool:
        """True if every ticket has ended and none will follow, at the last poll."""
        return self._wanted.over

    def board(self, run: str) -> Board | None:
        """The latest heartbeat of a run; with hundreds of runs it may be some polls old."""
        return self._watcher.board(run)

    def states(self) -> dict[str, TicketState]:
        """The latest view of the tickets of this experiment, in queue order."""
        return self._wanted.states()

    def read(self) -> dict[str, TicketState]:
        """The tickets of this experiment, read now, in queue order."""
        return self._wanted.read()

    def at_work(self) -> dict[str, TicketState]:
        """``states`` without the judged trials of a study: a few of thousands."""
        return self._wanted.at_work()

    def generation(self, ticket: str) -> int:
        """How often a finished ticket was opened again: part of the key of a cache."""
        return self.mailbox.reopened().after.get(ticket, 0)

    def _plan(self, bundle: Bundle | None) -> submit.Plan:
        return submit.plan(
            self.loaded, self.mailbox, bundle, allow_change=self._allow_change, clock=self.clock
        )

    def _begin_loops(self) -> None:
        """Poll once, so that the states are known; then poll and tend in threads."""
        self._watcher.look()
        tender = Tender(self._watcher, self._keeper.tend, pace(self.mailbox.store))
        looks = Paced(self._watcher, self.clock.monotonic)
        self._loops = [
            Loop("drillyard-watcher", looks.step, self.clock),
            Loop("drillyard-tender", tender.step, self.clock),
        ]
        for loop in self._loops:
            loop.start()

    def _sweep(self) -> None:
        """Remove the half-written files of processes that were killed on this machine."""
        if not isinstance(self.mailbox.store, FileStore):
            return
        try:
            self.mailbox.store.sweep(self.mailbox.experiment)
        except InfrastructureError as error:
            log.info("half-written files were not removed: %s", error)

    def _notify(self) -> None:
        try:  # read again: the watcher has not seen what ended after its last poll
            states = self._wanted.read()
        except InfrastructureError as error:
            return log.warning("the notification was not sent: %s", error)
        webhook.tell(self.mailbox, states, f"driver on {host()}", self.clock)

    def _end_leases(self) -> None:
        self._leases.end_all(TEARDOWN_TIMEOUT_S, self._lock.must_drive)
