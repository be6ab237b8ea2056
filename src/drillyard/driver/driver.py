"""Drives one experiment: posts its tickets, rents, watches, tells lost from failed, tears down.

Free of Prefect: a flow, a command and a test call the same plain methods, from any thread. The
order of a life is ``open``, ``provision``, ``setup``, ``wait`` (any number, side by side),
``teardown``, ``close``; after a crash anywhere the same life again adopts what lives, skips what
is accepted and resumes the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from drillyard.backend import Backend, Lease, Liveness, Order, prepare_store, setup_s
from drillyard.backend.settings.resolve import settings_of
from drillyard.driver import active, reopen, resume_checks
from drillyard.driver.launcher import Launcher
from drillyard.driver.lease_supervisor import Keeper
from drillyard.driver.outcome import failure
from drillyard.driver.reconcile import DONE, carry_out
from drillyard.driver.timings import PhaseTimes
from drillyard.driver.watcher import Watcher
from drillyard.driver.work_list import Wanted
from drillyard.errors import (
    Bug,
    CorruptObject,
    InfrastructureError,
    Stopped,
    Superseded,
    TimedOut,
    WorkerLost,
)
from drillyard.leases.ledger import Ledger
from drillyard.leases.lost_attempts import Undertaker, probe
from drillyard.leases.manager import Tenancy
from drillyard.leases.orders import order_of
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock, host
from drillyard.mailbox.records import Accepted, Board, Cancel, TicketRecord, WorkerRecord
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs import submit, webhook
from drillyard.runs.logs import RunLogs
from drillyard.system.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from drillyard.runs.code_archive import Bundle
    from drillyard.spec.load import Loaded

SETUP_TIMEOUT_S = 600.0
SETUP_REPLACEMENTS = 2
"""Leases that may die before they are ready: one that dies thrice would die for ever."""
TEARDOWN_TIMEOUT_S = 60.0
log = logging.getLogger(__name__)


class Driver:
    """One experiment's driver; thread-safe after ``open``.

    Args:
        loaded: The experiment as read from its file.
        mailbox: Where it is driven through; named as the experiment.
        backend: Where capacity is rented.
        clock: For waiting, deadlines and times in records.
        on_line: Told in a sentence what the driver does.
        allow_change: Go on although the settings of training changed (``--allow-change``).
    """

    def __init__(
        self,
        loaded: Loaded,
        mailbox: Mailbox,
        backend: Backend,
        *,
        clock: Clock = SYSTEM,
        on_line: Callable[[str], None] | None = None,
        allow_change: bool = False,
    ) -> None:
        self.loaded = loaded
        self.spec = loaded.spec
        self.mailbox = mailbox
        self.backend = backend
        self.ledger = Ledger(mailbox, clock)
        self._clock = clock
        self._on_line = on_line or log.info
        self._allow_change = allow_change
        self._lock = DriverLock(mailbox, clock)
        self._tenancy = Tenancy(mailbox, backend, self.ledger, clock)
        self._undertaker = Undertaker(mailbox, backend, self.ledger, f"driver on {host()}", clock)
        self._stopping = False
        self._wanted = Wanted(
            self.spec, mailbox, lambda: self._watcher.states(),
            stopped=lambda: self._stopping or mailbox.cancelled() is not None,
            spent=self.ledger.spent, say=self._on_line, clock=clock,
        )  # fmt: skip
        self.study = self._wanted.study
        self._keeper = Keeper(
            self._tenancy, backend, self._lock, self._wanted,
            launcher=Launcher(mailbox, backend, clock), undertaker=self._undertaker,
            rent=lambda: self._tenancy.replace(self.spec, self._order),
            stopping=lambda: self._stopping, say=self._on_line, clock=clock,
        )  # fmt: skip
        self._watcher = Watcher(mailbox, self._lock.beat, self._keeper.tend, clock)
        self._times = PhaseTimes(clock)
        self._verified: set[tuple[str, int]] = set()
        self._rented_at: float | None = None
        self._logs = RunLogs(mailbox)

    # -- a life -------------------------------------------------------------------------------

    def open(self) -> list[TicketRecord]:
        """Become the driver and post what is to be done.

        Returns:
            Tickets that are not done, in queue order. Empty: everything is accepted and verified;
            nothing was rented, what an earlier driver left is torn down, and this driver is
            closed already.

        Raises:
            IdentityChanged: Another experiment under the same name, or other major versions.
            CheckpointRefused: A checkpoint that must not be resumed from.
            AlreadyDriven: Another driver is alive.
            UserError: What changed concerns runs that are being worked on.
        """
        with self._times.of("prepare"):
            if ":" in self.spec.workload:
                submit.on_path(self.loaded.folder)
            prepare_store(self.backend, self.mailbox.store.url)
            url = webhook.webhook(self.spec)
            bundle = submit.pack(self.loaded, self.mailbox)
            self._lock.check_free()
            plan = self._plan(bundle)  # refuse before anything is created
            resume_checks.refuse(
                self.loaded, self.mailbox, plan.before, plan.record.versions,
                [run for run, _, _ in submit.runs(self._wanted.trials())],
                allow_change=self._allow_change,
            )  # fmt: skip
            self._lock.take(list(self.loaded.command))
            try:
                active.register(self)
                webhook.keep(self.mailbox, url, self._clock)
                todo = carry_out(
                    self._plan(bundle), self.spec, self.mailbox, self._undertaker,
                    self._end_leases, self._wanted.trials, self._wanted.settled, self._on_line,
                    self._clock,
                )  # fmt: skip
                if self.study is not None:
                    self.study.begin()
                    todo = [s.ticket for s in self._wanted.read().values() if not s.status.ended]
                if todo:
                    self._watcher.start()
                    return todo
                self._end_leases()
            except BaseException:
                self.close("refused")
                raise
        self.close("complete")
        return []

    def provision(self) -> Lease:
        """Rent capacity, or adopt what lives; returns at once, safe to call again.

        Raises:
            TimedOut: The budget is used up.
            InfrastructureError: The provider cannot be reached.
        """
        with self._times.of("provision"):
            self._lock.must_drive()
            lease = self._tenancy.rent(self.spec, self._order)
        self._rented_at = self._rented_at or self._clock.now()
        return lease

    def setup(self, timeout_s: float = SETUP_TIMEOUT_S) -> list[WorkerRecord]:
        """Wait for the workers to be ready; a lease that dies meanwhile is replaced twice.

        Raises:
            RunFailed: A worker could not be set up; with what it said.
            WorkerLost: They died again and again, or were not ready in time.
            Stopped: ``stop`` was called.
        """
        with self._times.of("setup"):
            if self._tenancy.lease is None:
                raise Bug("setup before provision")
            deadline = self._clock.monotonic() + timeout_s + setup_s(self.backend)
            while True:
                lease = self._tenancy.lease
                left_s = deadline - self._clock.monotonic()
                try:
                    ready = self._tenancy.ready(
                        left_s, self._check_stopped, self._wanted.done_early
                    )
                except WorkerLost:
                    gone = lease is not None and probe(self.backend, lease) is Liveness.GONE
                    if gone and self.decided:
                        return []  # its machines had done everything, and left
                    if not gone or self._keeper.replaced >= SETUP_REPLACEMENTS:
                        raise
                    with self._keeper.ending:
                        # Who tore it down meanwhile has the last word.
                        if self._tenancy.lease is not lease:
                            raise
                        self._keeper.replace(lease)
                else:
                    self._keeper.set_up = True
                    self._count_setup(ready)
                    return ready

    def _count_setup(self, workers: list[WorkerRecord]) -> None:
        """Workers are set up from the moment they are rented, whenever anybody waits for it."""
        ready_at = max((w.ready_at or 0.0 for w in workers), default=0.0)
        if self._rented_at is not None:
            self._times.at_least("setup", ready_at - self._rented_at)

    def wait(self, ticket: str, timeout_s: float | None = None) -> Accepted:
        """Wait for a ticket's result, every file of it verified.

        Args:
            ticket: Its id.
            timeout_s: Raise after this time; the work goes on.

        Raises:
            RunFailed: The user's code failed, or attempts are used up.
            TimedOut: A budget ended, or ``timeout_s`` did.
            Stopped: On request; resumable.
            WorkerLost: Attempts were used up by machines that died.
            CorruptObject: The result does not read back as it was written.
            Superseded: Another driver took over.
        """
        future = self._watcher.future(ticket)
        try:
            state = future.result(timeout_s)
        except TimeoutError:
            raise TimedOut(
                f"{ticket} was not done after {timeout_s:.0f} s",
                hint="that is what budget.max_hours or train.max_time_s come to, or a month; the "
                "same command goes on",
            ) from None
        if state.status not in DONE:
            raise failure(self.mailbox, ticket, state)
        accepted = self.mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is None:
            raise CorruptObject(
                f"{ticket} succeeded, but its result is missing", hint="run the command again"
            )
        if (ticket, accepted.attempt) not in self._verified:
            reopen.verify(self.mailbox, accepted)
            self._verified.add((ticket, accepted.attempt))
        return accepted

    def stop(self, reason: str, drain: bool = False) -> None:
        """Ask all workers to stop: tickets that wait are cancelled, running ones end soon.

        Args:
            reason: For people.
            drain: Let running tickets finish.
        """
        self._stopping = True
        order = Cancel(
            reason=reason, by=f"driver on {host()}", drain=drain, written_at=self._clock.now()
        )
        self.mailbox.write("control/cancel.json", order)

    def teardown(self, timeout_s: float = TEARDOWN_TIMEOUT_S) -> None:
        """End every lease of the experiment; done when the provider lists nothing of ours.

        Safe to call from several places (a flow's ``finally``, its hooks) and again. Does nothing
        when another driver took over: the machines are his.

        Raises:
            TeardownUnconfirmed: Something may still be running; results are intact.
        """
        with self._keeper.ending, self._times.of("teardown"):
            self._keeper.set_up = False  # what is being ended is not replaced
            try:
                self._tenancy.end_all(timeout_s, self._lock.must_drive)
            except Superseded as error:
                self._on_line(f"nothing torn down: {error}")

    def close(self, outcome: str) -> None:
        """End this driver: its record, its timings, its thread; safe to call again.

        Args:
            outcome: A word for the record: ``done``, ``failed``, ``cancelled`` …
        """
        if self.study is not None:
            self.study.close()
        self._watcher.stop()
        if self._lock.number:
            self.save_timings()
            self._lock.release(outcome)
            if outcome != "refused" and self.spec.notify is not None:
                self._tell_of_end()
        active.forget(self)

    def say(self, text: str) -> None:
        """Tell whoever started this driver, in a sentence."""
        self._on_line(text)

    def save_timings(self) -> None:
        """Write ``timings/<n>.json`` as of now, for a report that is built before ``close``."""
        self._times.save(self.mailbox, self._lock.number)

    # -- looking ------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The driver's number, as in ``driver/<n>.json``."""
        return self._lock.number

    @property
    def lease(self) -> Lease | None:
        """What is rented now."""
        return self._tenancy.lease

    @property
    def decided(self) -> bool:
        """True when no ticket of the experiment can move any more, so that machines may go."""
        return self._wanted.decided

    @property
    def over(self) -> bool:
        """True when every ticket has ended and no more will come, as far as was seen."""
        return self._wanted.over

    def board(self, run: str) -> Board | None:
        """The latest words of a run's worker; where hundreds work, of some looks before."""
        return self._watcher.board(run)

    def states(self) -> dict[str, TicketState]:
        """The latest view of the tickets of this experiment, in queue order."""
        return self._wanted.states()

    def at_work(self) -> dict[str, TicketState]:
        """``states`` without the trials of a study that were judged: of thousands, a few."""
        return self._wanted.at_work()

    def generation(self, ticket: str) -> int:
        """Counts how often a finished ticket was opened again: part of any cache's key."""
        return self.mailbox.reopened().after.get(ticket, 0)

    def logs(self, run: str, since: int = 0) -> list[str]:
        """Log lines of a run over all phases and attempts.

        Args:
            run: The run.
            since: How many lines the caller has seen.
        """
        return self._logs.lines(run)[since:]

    # -- opening ------------------------------------------------------------------------------

    def _plan(self, bundle: Bundle | None) -> submit.Plan:
        return submit.plan(
            self.loaded, self.mailbox, bundle, allow_change=self._allow_change, clock=self._clock
        )

    def _order(self, lease_id: str) -> Order:
        return order_of(
            self.spec, lease=lease_id, store_url=self.mailbox.store.url,
            runs=self._wanted.remaining_runs(), settings=settings_of(self.spec, self.backend.kind),
            code=self.mailbox.experiment_record().code,
        )  # fmt: skip

    # -- small --------------------------------------------------------------------------------

    def _check_stopped(self) -> None:
        if self._stopping or self.mailbox.cancelled() is not None:
            raise Stopped("stopped before any work began", hint="run the same command again")

    def _tell_of_end(self) -> None:
        try:  # anew: the watcher has not seen what ended after its last look
            states = self._wanted.read()
        except InfrastructureError as error:
            log.warning("nobody is told of the end: %s", error)
        else:
            webhook.tell(self.mailbox, states, f"driver on {host()}", self._clock)

    def _end_leases(self) -> None:
        self._tenancy.end_all(TEARDOWN_TIMEOUT_S, self._lock.must_drive)
