"""Supervises a lease: tends it while it lives, replaces a lost one, ends an overdue one."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from drillyard.backend import Backend, Lease, Liveness, Order, TendsLeases, Trait
from drillyard.driver.launcher import Launcher
from drillyard.driver.rental import Rental
from drillyard.driver.stop_order import StopOrder
from drillyard.driver.work_list import WorkList
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    InfrastructureError,
    NoCapacity,
    SearchEnded,
    TimedOut,
    WorkerLost,
)
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.leases.manager import LeaseManager
from drillyard.leases.places import Places
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.records import Phase
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState

OVERDUE_S = 120.0
"""Seconds after its limit at which the driver ends a lease that still exists."""
_LAST_WORDS = 3
"""Number of log lines in the message about a lease that did no work."""
log = logging.getLogger(__name__)


class LeaseSupervisor:
    """Looks after the lease of one driver, in the watcher's second thread.

    Args:
        leases: Has the lease.
        rental: Rents another lease in place of a lost one.
        places: Have the backend of each lease.
        lock: The driver's lock. A driver that lost it does nothing.
        wanted: The work that the lease is for.
        launcher: Starts tickets if workers do not pull them.
        closer: Closes the attempts of lost machines.
        stopping: Whether this driver was asked to stop: then no lease is replaced.
        say: Called with a sentence about each action.
    """

    def __init__(
        self,
        leases: LeaseManager,
        rental: Rental,
        places: Places,
        lock: DriverLock,
        wanted: WorkList,
        launcher: Launcher,
        closer: LostAttemptCloser,
        stopping: StopOrder,
        *,
        say: Callable[[str], None],
    ) -> None:
        self._leases = leases
        self._places = places
        self._lock = lock
        self._wanted = wanted
        self._launcher = launcher
        self._closer = closer
        self._rental = rental
        self._stopping = stopping
        self._say = say
        self.set_up = False
        """Whether the workers were ready once: before that, the set-up replaces leases."""
        self.torn_down = False
        """Whether leases are being ended for good, so that none is rented again."""
        self.replaced = 0
        """Leases that were lost and replaced."""
        self._waits_for = ""
        """Lease of which it was said that it takes no work now."""
        self.ending = threading.Lock()
        """Held while leases are ended or replaced, so that only one of both happens."""

    def tend(self, states: dict[str, TicketState]) -> None:
        """Check the lease once.

        Args:
            states: States of all tickets.

        Raises:
            TimedOut: The lease is overdue.
            WorkerLost: Leases were lost repeatedly.
            Superseded: Another driver took over.
        """
        holders = self._closer.close_lost(states)
        lease = self._leases.lease
        todo = [s for s in self._wanted.of(states).values() if not s.status.ended]
        if not self.set_up:
            return
        if not todo:
            if lease is not None and self._wanted.held:
                self._retire(lease)
            return
        if lease is not None and self._leases.over(lease, OVERDUE_S):
            # Neither the worker nor the provider has ended it. The outcome is decided, and the
            # session tears it down.
            raise self._limit_reached(lease)
        alive = None if lease is None else answer(self._places.backend_of(lease), lease)
        if lease is None or alive is Liveness.GONE:
            # If all open work runs on machines of other leases, new ones would be idle, and end.
            at_work = [holders.get(s.ticket.ticket) for s in todo if s.status is Status.RUNNING]
            waits = any(s.claimable is not None for s in todo)
            if lease is None or waits or not at_work or {None, lease.lease_id} & {*at_work}:
                self._lost(lease)
            return
        backend = self._places.backend_of(lease)
        try:
            if isinstance(backend, TendsLeases):
                try:
                    self._keep(backend, lease, strength(backend, lease.order, todo))
                except NoCapacity as full:
                    raise SearchEnded(full.message, hint=full.hint) from full
            if Trait.PULLS not in backend.traits and not self._stopping.given:
                if not self._leases.over(lease):
                    self._launch(lease, alive, todo)
                elif not any(s.status is Status.RUNNING for s in self._wanted.read().values()):
                    # A job that is sent now ends at once, and would count as one that never began.
                    raise self._limit_reached(lease)
        except NoCapacity as full:
            with self._unless_ending(lease) as free:
                if free and not self.move(lease, full):
                    raise

    def _retire(self, lease: Lease) -> None:
        """Write off a lease that ended by itself between two requests: it costs no more."""
        self.replaced = 0
        if answer(self._places.backend_of(lease), lease) is not Liveness.GONE:
            return
        with self._unless_ending(lease) as free:
            if free:
                self._say(f"lease {lease.lease_id} had nothing to do and ended")
                self._leases.write_off()

    def replace(self, lease: Lease | None) -> None:
        """Rent again; ``None``: the lease was written off before, and renting failed.

        Raises:
            WorkerLost: Too many were lost before this one.
            Superseded: Another driver took over.
        """
        if lease is not None:
            if self.replaced >= RETRIES[Cause.INFRASTRUCTURE]:
                raise WorkerLost(
                    f"lease {lease.lease_id} is gone, like {self.replaced} before it",
                    hint="run the command again once the backend works",
                )
            self.replaced += 1
            self._say(f"lease {lease.lease_id} is gone before the work was done: renting another")
        self._lock.must_drive()
        self._rental.replace()

    def move(self, lease: Lease, full: NoCapacity) -> bool:
        """Rent in another place, because the backend has no room for a lease.

        Returns:
            False if there is no other place to try; then nothing was done.

        Raises:
            Superseded: Another driver took over.
        """
        self._lock.must_drive()
        if not self._rental.move(full):
            return False
        new = self._leases.lease
        self._say(f"lease {lease.lease_id} is replaced by one on {new.backend if new else '?'}")
        return True

    def _keep(self, backend: TendsLeases, lease: Lease, workers: int) -> None:
        """Let the backend replace machines, unless the lease is being ended or is over."""
        if self._leases.over(lease):
            return
        with self._unless_ending(lease) as free:
            if free:
                with self._leases.only_open(lease):
                    backend.tend(lease, workers)
        self._leases.explain(lease)

    def _launch(self, lease: Lease, alive: Liveness | None, todo: Sequence[TicketState]) -> None:
        """Start tickets; a lease that its provider does not know to be alive may refuse that.

        It is being created or deleted, which takes minutes: longer than failures may last. A
        deleted one is replaced once it is gone.
        """
        try:
            self._launcher.launch(lease, todo)
        except ControlPlaneError as refusal:
            if alive not in (Liveness.UNKNOWN, Liveness.PENDING):
                raise
            if self._waits_for != lease.lease_id:
                self._waits_for = lease.lease_id
                self._say(f"lease {lease.lease_id} takes no work now: {refusal}")

    def _lost(self, lease: Lease | None) -> None:
        if lease is not None and self._leases.over(lease):
            raise self._limit_reached(lease)
        if all(state.status.ended for state in self._wanted.read().values()):
            return  # its machines did everything and shut down: the next poll sees it
        with self._unless_ending(lease) as free:
            if free:
                self.replace(lease)

    def _limit_reached(self, lease: Lease) -> TimedOut:
        # Read now: the watcher's last look may be from before a worker claimed a ticket.
        return limit_reached(self._places.backend_of(lease), lease, self._wanted.read())

    @contextlib.contextmanager
    def _unless_ending(self, lease: Lease | None) -> Iterator[bool]:
        """True unless this lease is being ended; it does not wait for a running teardown."""
        if not self.ending.acquire(blocking=False):
            yield False
            return
        try:
            yield self.set_up and self._leases.lease is lease and not self._stopping.given
        finally:
            self.ending.release()


def answer(backend: Backend, lease: Lease) -> Liveness | None:
    """The state of a lease as its provider says it; None if the provider does not answer."""
    try:
        return backend.probe(lease)
    except InfrastructureError as error:
        log.info("the state of lease %s cannot be read now: %s", lease.lease_id, error)
        return None


def strength(backend: Backend, order: Order, todo: Sequence[TicketState]) -> int:
    """The workers that are needed now: one for each run, and hosts while a training is left.

    Args:
        backend: Backend of the lease.
        order: What was rented.
        todo: The tickets that have not ended.
    """
    workers = min(order.workers, len({s.ticket.run for s in todo}))
    trains = any(s.ticket.phase is Phase.TRAIN for s in todo)
    return workers + (order.hosts if trains and Trait.HOSTS in backend.traits else 0)


def limit_reached(backend: Backend, lease: Lease, states: Mapping[str, TicketState]) -> TimedOut:
    """The error for a lease that reached its limit.

    Args:
        backend: Its logs are added if no ticket had begun, as there may have been no machine.
        lease: The lease.
        states: States of all tickets.
    """
    limit = lease.order.deadline_of or "budget.max_hours or budget.max_cost"
    hint = (
        "raise it and run the same command again: it continues what is not finished, from "
        "checkpoints where there are some"
    )
    # A ticket whose worker was lost can be claimed again.
    waiting = (Status.PENDING, Status.READY)
    if any(s.status not in waiting or s.attempt is not None for s in states.values()):
        return TimedOut(f"{limit} ended the lease before the work was done", hint=hint)
    said: list[str] = []
    with contextlib.suppress(DrillyardError):
        said = list(backend.logs(lease, None))[-_LAST_WORDS:]
    return TimedOut(
        "; ".join([f"{limit} ended the lease before any work had begun", *said]),
        hint="raise the limit, which includes the time in which machines start; if no machine "
        "came, see why (quota, capacity, the image); then run the same command again",
    )
