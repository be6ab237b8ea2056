"""Renting, adopting, replacing and ending the capacity of one experiment.

The ledger is written before each effect, so that a new process goes on from any point: an intent
without a lease is rented again (idempotent by its id) or torn down, a lease that lives is adopted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from drillyard.backend import (
    Backend,
    Lease,
    Liveness,
    Order,
    Trait,
    open_backend,
    teardown_s,
)
from drillyard.backend.prices import allowance, over
from drillyard.errors import (
    DrillyardError,
    InfrastructureError,
    NoCapacity,
    RunFailed,
    TimedOut,
    UserError,
    WorkerLost,
)
from drillyard.leases import machine_logs
from drillyard.leases.ledger import Entry, Ledger
from drillyard.leases.lost_attempts import probe
from drillyard.leases.release import vacate
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import WorkerRecord
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock

log = logging.getLogger(__name__)
_POLL_S = 0.1
_AT_ONCE = 8
MIN_LIFE_S = 5.0


class Tenancy:
    """The leases of one experiment, as one driver handles them.

    Args:
        mailbox: The experiment.
        backend: Where capacity is rented.
        ledger: Of the experiment.
        clock: For waiting and deadlines.
    """

    def __init__(
        self, mailbox: Mailbox, backend: Backend, ledger: Ledger, clock: Clock = SYSTEM
    ) -> None:
        self._mailbox = mailbox
        self._backend = backend
        self._ledger = ledger
        self._clock = clock
        self._used_s = 0.0
        self._lock = threading.RLock()
        self.lease: Lease | None = None

    # -- renting ------------------------------------------------------------------------------

    def rent(self, spec: ExperimentSpec, order: Callable[[str], Order]) -> Lease:
        """Adopt the living lease of this experiment, or rent one; returns at once.

        Args:
            spec: For the budget.
            order: Lease id -> what to rent.

        Raises:
            TimedOut: The budget is used up.
            InfrastructureError: The provider cannot be reached; safe to call again.
        """
        with self._lock:
            if self.lease is None:
                self.lease = self._adopt() or self._rent_new(spec, order)
            return self.lease

    def replace(self, spec: ExperimentSpec, order: Callable[[str], Order]) -> Lease:
        """Write the present lease off, which the provider says is gone, and rent another."""
        with self._lock:
            lost = self.lease
            if lost is not None:
                self._backend.teardown(lost)  # remains of it: discs, groups, children
                entry = self._ledger.entry(lost.lease_id)
                self._used_s += entry.lived_s(self._clock.now()) if entry else 0.0
                self._ledger.gone(lost.lease_id, "lost", confirmed=False)
                self.lease = None
            return self.rent(spec, order)

    def _adopt(self) -> Lease | None:
        for entry in reversed([e for e in self._ledger.entries() if e.open]):
            backend = self._backend_of(entry)
            alive = probe(backend, entry.lease)
            if entry.rented is not None and alive is Liveness.GONE:
                backend.teardown(entry.lease)
                self._ledger.gone(entry.lease.lease_id, "found gone", confirmed=False)
                continue
            if entry.intent.backend != self._backend.kind or self._over(entry):
                self._end(entry)  # the user moved to another backend, or its time is up
                continue
            # Idempotent by id: also completes what an earlier driver was killed in.
            lease = backend.provision(entry.intent.order)
            self._ledger.rented(lease)
            self._used_s += entry.lived_s(self._clock.now())
            log.info("adopted lease %s", lease.lease_id)
            return lease
        return None

    def _over(self, entry: Entry) -> bool:
        deadline = entry.lease.order.deadline
        return deadline is not None and self._clock.now() >= deadline

    def _rent_new(self, spec: ExperimentSpec, make: Callable[[str], Order]) -> Lease:
        limits = spec.budget.max_hours, spec.budget.max_cost
        if Trait.PAID in self._backend.traits and None in limits:
            raise UserError(
                f"machines of {self._backend.kind!r} cost money, and this experiment has no limit",
                hint="set budget.max_hours and budget.max_cost",
            )
        ordinal, name = self._ledger.next_lease()
        order = make(name)
        cost = self._backend.estimate(order)
        allowed = allowance(
            max_hours=spec.budget.max_hours, max_cost=spec.budget.max_cost,
            per_hour=cost.per_hour, used_s=self._used_s, used_cost=self._ledger.spent(),
        )  # fmt: skip
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
        self._ledger.intend(order, self._backend.kind, ordinal, cost)
        lease = self._backend.provision(order)
        self._ledger.rented(lease)
        return lease

    # -- setup --------------------------------------------------------------------------------

    def ready(
        self,
        timeout_s: float,
        interrupted: Callable[[], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> list[WorkerRecord]:
        """Wait until all workers of the lease are ready; where tickets bring them, the lease.

        Args:
            timeout_s: How long.
            interrupted: Called in between; raises to end the waiting.
            enough: True when no more workers are needed than there are.

        Raises:
            RunFailed: A worker could not be set up; with what it said.
            WorkerLost: The lease is gone, or no worker was ready in time.
        """
        lease = cast(Lease, self.lease)
        wanted = lease.order.workers
        event = threading.Event()
        pause_s = max(_POLL_S, pace(self._mailbox.store))
        deadline = self._clock.monotonic() + timeout_s
        next_probe = self._clock.monotonic() + 2.0
        seen: WorkerCache = {}
        while True:
            interrupted()
            there = self._mailbox.workers(seen, settled=("ready",))
            mine = [w for w in there if w.lease == lease.lease_id]
            self._refuse_failed(mine, lease.lease_id)
            ready = [w for w in mine if w.state == "ready"]
            if (ready and sum(w.slots for w in ready) >= wanted) or enough():
                return ready
            now = self._clock.monotonic()
            if now >= next_probe:
                next_probe = now + 2.0
                alive = probe(self._backend, lease)
                if alive is Liveness.ALIVE and Trait.JOBS in self._backend.traits:
                    return ready
                if alive is Liveness.GONE:
                    # Its last words may have come between the two looks.
                    self._refuse_failed(self._mailbox.workers(), lease.lease_id)
                    raise self._lost(lease, "ended before it was ready")
                wanted = self._tended(lease)
            if now >= deadline:
                if ready:  # fewer than asked for is slower, not wrong
                    log.warning("%d of %d workers are ready", len(ready), lease.order.workers)
                    return ready
                raise self._lost(lease, f"had no ready worker after {timeout_s:.0f} s")
            self._clock.wait(event, pause_s)

    def _tended(self, lease: Lease) -> int:
        """Let the backend mend what did not come; how many workers can be waited for."""
        if Trait.TENDED in self._backend.traits:
            try:
                return self._backend.tend(lease, lease.order.workers)
            except NoCapacity:
                raise
            except InfrastructureError as error:
                log.info("cannot tend lease %s now: %s", lease.lease_id, error)
        return lease.order.workers

    def _refuse_failed(self, workers: list[WorkerRecord], lease: str) -> None:
        for worker in workers:
            if worker.lease == lease and worker.state == "failed":
                raise RunFailed(
                    f"worker {worker.worker} on {worker.host} could not be set up: "
                    f"{worker.message}"
                )

    def _lost(self, lease: Lease, what: str) -> WorkerLost:
        try:
            lines = list(self._backend.logs(lease, None))[-5:]
        except (DrillyardError, OSError):
            lines = []
        last = "; its last lines:\n  " + "\n  ".join(lines) if lines else ""
        return WorkerLost(f"lease {lease.lease_id} {what}{last}", hint="run the command again")

    # -- the end ------------------------------------------------------------------------------

    def end_all(self, timeout_s: float, may: Callable[[], None]) -> None:
        """End every lease of the experiment that may be alive, also those written off as lost.

        Args:
            timeout_s: How long to wait for the provider's listing.
            may: Raises when this driver may no longer act.

        Raises:
            TeardownUnconfirmed: Something of ours is listed still; every lease was tried.
        """
        with self._lock:
            entries = [entry for entry in self._ledger.entries() if entry.unseen]
            if entries:
                may()
                with ThreadPoolExecutor(_AT_ONCE) as threads:
                    ends = [threads.submit(self._end, entry, timeout_s) for entry in entries]
                for end in ends:
                    end.result()
            self.lease = None

    def _end(self, entry: Entry, timeout_s: float = 60.0) -> None:
        lease, backend = entry.lease, self._backend_of(entry)
        if entry.open:
            machine_logs.keep(self._mailbox, backend, lease)
        vacate(
            backend, lease, timeout_s=timeout_s + teardown_s(backend), clock=self._clock
        )  # fmt: skip
        if entry.open:
            self._ledger.gone(lease.lease_id, "torn down")
        else:
            self._ledger.confirm(lease.lease_id)

    def _backend_of(self, entry: Entry) -> Backend:
        if entry.intent.backend == self._backend.kind:
            return self._backend
        return open_backend(entry.intent.backend, entry.intent.order.settings)
