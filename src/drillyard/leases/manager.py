"""Renting, adopting, replacing and ending the capacity of one experiment.

The ledger is written before each effect, so that a new process can continue from any point: an
intent without a lease is rented again (idempotent by its id) or torn down, and a living lease is
adopted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

from drillyard.backend import Backend, Lease, Liveness, Order, Trait, delays_of
from drillyard.backend.prices import over
from drillyard.errors import (
    DrillyardError,
    InfrastructureError,
    NoCapacity,
    StoreUnavailable,
    TeardownUnconfirmed,
    TimedOut,
    UserError,
)
from drillyard.findings import Severity
from drillyard.leases import budget, machine_logs
from drillyard.leases.ended_alone import FirstLook, nothing_is_up
from drillyard.leases.ledger import FULL, LOST, Entry, Intent, Ledger
from drillyard.leases.lost_attempts import probe
from drillyard.leases.only_open import ask_to_go, only_open
from drillyard.leases.places import CHECK_AGAIN_S, Place, Places
from drillyard.leases.reasons import Reasons
from drillyard.leases.release import Release
from drillyard.mailbox import Mailbox
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import run_steps

log = logging.getLogger(__name__)
MIN_LIFE_S = 5.0
MakeOrder = Callable[[str, Place], Order]
"""(lease id, place) -> what to rent there."""


class LeaseManager:
    """The leases of one experiment, as one driver handles them.

    Args:
        mailbox: The experiment.
        backend: Where capacity is rented: a backend, or several places in turn.
        ledger: The leases of the experiment.
        clock: For waiting and deadlines; a driver gives it the store's time, because another
            driver may continue with its leases.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        backend: Backend | Places,
        ledger: Ledger,
        clock: Clock = SYSTEM,
        say: Callable[[str], None] = log.info,
    ) -> None:
        self._mailbox = mailbox
        self._places = Places.only(backend)
        self._say = say
        self._reasons = Reasons(say)
        self._ledger = ledger
        self._clock = clock
        self._used_s = 0.0
        self._lock = threading.RLock()
        self._first_looks: dict[str, FirstLook] = {}
        """Leases that were to be ended -> what was there."""
        self.lease: Lease | None = None

    # -- renting ------------------------------------------------------------------------------

    def rent(self, spec: ExperimentSpec, order: MakeOrder) -> Lease:
        """Adopt the living lease of this experiment, or rent one; returns at once.

        Args:
            spec: For the budget.
            order: Makes the order for a place.

        Raises:
            TimedOut: The budget is used up.
            NoCapacity: No place has room.
            InfrastructureError: The provider cannot be reached; safe to call again.
        """
        with self._lock:
            if self.lease is None:
                self.lease = self._adopt(spec) or self._rent_new(spec, order)
            return self.lease

    def replace(self, spec: ExperimentSpec, order: MakeOrder, reason: str = LOST) -> Lease:
        """Write off the present lease, which is gone or useless, and rent another one."""
        with self._lock:
            self.write_off(reason)
            return self.rent(spec, order)

    def write_off(self, reason: str = LOST) -> None:
        """Write off the present lease, if there is one, and rent nothing."""
        with self._lock:
            lost = self.lease
            if lost is not None:
                self._drop(lost, reason)
                self._used_s = self._ledger.used_s()
                self.lease = None

    def _adopt(self, spec: ExperimentSpec) -> Lease | None:
        for entry in reversed([e for e in self._ledger.entries() if e.open]):
            backend = self._places.backend_of(entry.lease)
            alive = probe(backend, entry.lease)
            if entry.rented is not None and alive is Liveness.GONE:
                ask_to_go(backend, entry.lease)
                self._ledger.gone(entry.lease.lease_id, "found gone", confirmed=False, found=True)
                continue
            place = self._places.place_of(entry.lease)
            if place is None or self.over(self._shortened(spec, entry.intent, entry.lease)):
                self._end(entry)  # another backend is used now, or the lease's time is over
                continue
            if entry.ending is not None:
                self._ledger.not_ending(entry.lease.lease_id)
            # Idempotent by id: it also completes a request in which an earlier driver was killed.
            try:
                lease = self._provision(backend, entry.intent)
            except NoCapacity as full:
                if not self._places.several:
                    raise
                self._pass_over(place, full)
                self._drop(entry.lease, FULL)
                continue
            log.info("adopted lease %s", lease.lease_id)
            return self._shortened(spec, entry.intent, lease)
        return None

    def _shortened(self, spec: ExperimentSpec, intent: Intent, lease: Lease) -> Lease:
        """A living lease with the limit of the budget as it is now, if that is earlier."""
        allowed = self._allowed(spec, intent.cost.per_hour)
        if allowed is None:
            return lease
        life_s, limit = allowed
        deadline, before = self._clock.now() + life_s, lease.order.deadline
        if before is not None and before <= deadline:
            return lease
        order = lease.order.model_copy(update={"deadline": deadline, "deadline_of": limit})
        return lease.model_copy(update={"order": order})

    def _allowed(self, spec: ExperimentSpec, per_hour: float) -> tuple[float, str] | None:
        return budget.allowance(
            max_hours=spec.budget.max_hours,
            max_cost=spec.budget.max_cost,
            per_hour=per_hour,
            used_s=self._used_s,
            used_cost=self._ledger.spent(),
        )

    def _rent_new(self, spec: ExperimentSpec, make: MakeOrder) -> Lease:
        _, name = self._ledger.next_lease()
        for place in self._places.in_turn(
            lambda p: budget.priced(p.backend, make(name, p), self._clock)
        ):
            try:
                lease = self._rent_at(place, spec, make)
            except NoCapacity as full:
                if not self._places.several:
                    raise
                self._pass_over(place, full)
            else:
                if lease is not None:
                    return lease
        raise self._places.full()

    def move(self, spec: ExperimentSpec, order: MakeOrder, full: NoCapacity) -> bool:
        """Write off the present lease, whose place has no room for it, and rent elsewhere.

        Returns:
            False if there is no other place to try; then nothing was done.
        """
        with self._lock:
            lease = self.lease
            if lease is None or not self._places.elsewhere(lease):
                return False
            place = self._places.place_of(lease)
            if place is not None:
                self._pass_over(place, full)
            self.replace(spec, order, FULL)
            return True

    def _pass_over(self, place: Place, full: NoCapacity) -> None:
        self._places.pass_over(place, full.message)
        self._say(f"{place.name} is passed over: {full.message}")

    def _refused(self, place: Place, spec: ExperimentSpec, order: Order) -> str:
        """What is wrong with a place now; empty if nothing is, or if there is no other place."""
        if not self._places.several:
            return ""
        price = budget.offer(spec, place.backend, order, self._clock)
        findings = [*place.backend.check(order), *budget.judged(place.spec or spec, price)]
        bad = [f.message for f in findings if f.severity is Severity.ERROR]
        return bad[0] if bad else ""

    def _rent_at(self, place: Place, spec: ExperimentSpec, make: MakeOrder) -> Lease | None:
        """Rent in one place; None if it cannot work now."""
        backend = place.backend
        limited = spec.budget.max_cost is not None or spec.budget.no_cost_limit
        limited = limited and spec.budget.max_hours is not None
        if Trait.PAID in backend.traits and not limited:
            raise UserError(
                f"machines of {backend.kind!r} cost money, and this experiment has no limit",
                hint="set budget.max_hours and budget.max_cost",
            )
        ordinal, name = self._ledger.next_lease()
        order = make(name, place)
        cost = budget.priced(backend, order, self._clock)
        budget.one_currency(spec, cost, [e.intent.cost for e in self._ledger.entries()])
        allowed = self._allowed(spec, cost.per_hour)
        if allowed is not None:
            life_s, limit = allowed
            if life_s < MIN_LIFE_S:
                raise TimedOut(
                    f"{limit} is used up: {self._used_s / 3600:.2f} h now, "
                    f"{self._ledger.spent():.2f} {cost.currency} in all",
                    hint="raise it; finished work is kept",
                )
            deadline = self._clock.now() + life_s
            order = order.model_copy(update={"deadline": deadline, "deadline_of": limit})
            cost = over(cost, life_s)
        if why := self._refused(place, spec, order):
            self._places.pass_over(place, why, CHECK_AGAIN_S)
            self._say(f"{place.name} is passed over: {why}")
            return None
        intent = self._ledger.intend(order, backend.kind, ordinal, cost)
        try:
            return self._provision(backend, intent)
        except NoCapacity:
            if self._places.several:
                self._drop(Entry(intent, None, None).lease, FULL)
            raise

    def _provision(self, backend: Backend, intent: Intent) -> Lease:
        """Ask the provider, and write down what it gave.

        Raises:
            Superseded: Another driver took over.
            StoreUnavailable: The lease was ended; the next call rents another one.
        """
        with self.only_open(Entry(intent, None, None).lease):
            lease = backend.provision(intent.order)
            self._ledger.must_be_open(lease.lease_id)
            self._ledger.rented(lease)
        return lease

    def explain(self, lease: Lease) -> None:
        """Say what the provider says about machines that do not come."""
        self._reasons.look(self._places.backend_of(lease), lease)

    def only_open(self, lease: Lease) -> AbstractContextManager[None]:
        """For a request that creates something for a lease; see ``only_open``."""
        return only_open(self._ledger, self._places.backend_of(lease), lease)

    def over(self, lease: Lease, late_s: float = 0.0) -> bool:
        """Whether the time of a lease is over.

        Args:
            lease: Which.
            late_s: For so many seconds.
        """
        deadline = lease.order.deadline
        return deadline is not None and self._clock.now() >= deadline + late_s

    # -- the end ------------------------------------------------------------------------------

    def end_all(self, timeout_s: float, may: Callable[[], None]) -> None:
        """End every lease of the experiment that may be alive; see ``Ending``.

        Raises:
            TeardownUnconfirmed: Something of ours is listed still; every lease was tried.
        """
        with self._lock:
            run_steps(Ending(self, timeout_s, may).step, self._clock)

    def unseen(self) -> list[Entry]:
        """Leases that may be alive, also those that were written off as lost."""
        return [entry for entry in self._ledger.entries() if entry.unseen]

    def release(self, entry: Entry, timeout_s: float) -> Release:
        """Begin to end a lease; its machines' logs are kept first."""
        lease, backend = entry.lease, self._places.backend_of(entry.lease)
        if entry.open:
            look = FirstLook.at_lease(backend, lease, self._clock.now())
            self._first_looks[lease.lease_id] = look
            with suppress(StoreUnavailable):  # a store that cannot be written must not cost more
                self._ledger.ending(lease.lease_id)
            machine_logs.keep(self._mailbox, backend, lease)
        timeout_s += delays_of(backend).teardown_s
        return Release(backend, lease, timeout_s=timeout_s, reasons=self._reasons)

    def released(self, entry: Entry, reason: str = "torn down") -> None:
        """Write down that the provider no longer lists a lease."""
        lease = entry.lease.lease_id
        if entry.open:
            look = self._first_looks.get(lease)
            found = look is not None and look.ended_alone(self._clock.now())
            self._ledger.gone(lease, reason, found=found)
        else:
            self._ledger.confirm(lease)

    def _end(self, entry: Entry, reason: str = "torn down", timeout_s: float = 60.0) -> None:
        """End a lease, and wait until its provider no longer lists it.

        Raises:
            TeardownUnconfirmed: The provider still lists it, or could not be asked.
            Superseded: Another driver took over.
        """
        release = self.release(entry, timeout_s)

        def step(now: float) -> float | None:
            self._ledger.must_write()  # another driver may use it again
            return release.step(now)

        run_steps(step, self._clock)
        self.released(entry, reason)

    def _drop(self, lease: Lease, reason: str) -> None:
        """Write off a lease that is lost, or whose place has no room.

        A machine of it that is up would cost money beside those that follow, so its end is waited
        for. Without a machine, the next teardown confirms the end.

        Raises:
            TeardownUnconfirmed: A machine of it may be up.
        """
        backend = self._places.backend_of(lease)
        entry = self._ledger.entry(lease.lease_id)
        if entry is not None and entry.open and not nothing_is_up(backend, lease):
            self._end(entry, reason)
            return
        ask_to_go(backend, lease)  # remains of it: discs, groups, children
        self._ledger.gone(lease.lease_id, reason, confirmed=False, found=reason == LOST)


class Ending:
    """The end of all leases of an experiment, in steps.

    Args:
        leases: The leases of the experiment.
        timeout_s: How long to wait for the provider's listing of each.
        may: Raises when this driver may no longer act.
    """

    def __init__(self, leases: LeaseManager, timeout_s: float, may: Callable[[], None]) -> None:
        self._leases = leases
        self._timeout_s = timeout_s
        self._may = may
        self._open: list[tuple[Entry, Release]] | None = None
        self._error: DrillyardError | None = None

    def step(self, now: float) -> float | None:
        """Take every lease one step further; None once all are confirmed.

        Raises:
            Superseded: Another driver took over, before or meanwhile.
            TeardownUnconfirmed: Something of ours is listed still; every lease was tried.
        """
        if self._open is None:
            entries = self._leases.unseen()
            if entries:
                self._may()
            self._open = list(self._begun(entries))
        elif self._open:
            self._may_still()
        left: list[tuple[Entry, Release]] = []
        pauses: list[float] = []
        for entry, release in self._open:
            try:
                pause_s = release.step(now)
            except TeardownUnconfirmed as error:
                self._error = self._error or error
                continue
            if pause_s is None:
                self._leases.released(entry)
            else:
                left.append((entry, release))
                pauses.append(pause_s)
        self._open = left
        if left:
            return min(pauses)
        if self._error is not None:
            raise self._error
        self._leases.lease = None
        return None

    def _may_still(self) -> None:
        """Raise if another driver took over while this process slept: it uses the machines.

        A store that does not answer stops no teardown: machines cost money meanwhile.
        """
        try:
            self._may()
        except InfrastructureError as error:
            log.info("the store does not answer, and the teardown goes on: %s", error)

    def _begun(self, entries: list[Entry]) -> Iterator[tuple[Entry, Release]]:
        """Where one cannot even be asked for (its backend does not open), the others are."""
        for entry in entries:
            try:
                yield entry, self._leases.release(entry, self._timeout_s)
            except DrillyardError as error:
                self._error = self._error or error
