"""Waits until the workers of a lease are ready."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from drillyard.backend import Backend, Lease, Liveness, TendsLeases, Trait
from drillyard.errors import (
    DrillyardError,
    InfrastructureError,
    NoCapacity,
    RunFailed,
    WorkerLost,
)
from drillyard.leases.lost_attempts import probe
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import WorkerRecord

_POLL_S = 0.1
_PROBE_EVERY_S = 2.0
log = logging.getLogger(__name__)


class SetupWait:
    """The wait for the workers of one lease, in steps.

    Args:
        mailbox: Where workers say that they are ready.
        backend: Backend of the lease. It replaces machines that did not start.
        lease: Whose workers; where tickets bring them, the lease itself is waited for.
        timeout_s: How long.
        enough: True when no more workers are needed than there are.
        only_open: Lets machines be replaced only while this driver drives and the lease is open.
        explain: Called while machines are waited for; it says why they do not come.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        backend: Backend,
        lease: Lease,
        timeout_s: float,
        enough: Callable[[], bool] = lambda: False,
        only_open: Callable[[Lease], AbstractContextManager[None]] = lambda lease: nullcontext(),
        explain: Callable[[Lease], None] = lambda lease: None,
    ) -> None:
        self._mailbox = mailbox
        self._backend = backend
        self._lease = lease
        self._timeout_s = timeout_s
        self._enough = enough
        self._only_open = only_open
        self._explain = explain
        self._ordered = lease.order.workers
        if Trait.HOSTS in backend.traits:
            self._ordered = lease.order.all_workers
        self._wanted = self._ordered
        self._pause_s = max(_POLL_S, pace(mailbox.store))
        self._deadline: float | None = None
        self._next_probe = 0.0
        self._seen: WorkerCache = {}
        self._left: list[WorkerRecord] = []
        self.ready: list[WorkerRecord] = []
        """The workers that are ready, once it has finished."""

    def step(self, now: float) -> float | None:
        """Check once; None once enough workers are ready.

        Raises:
            RunFailed: The user's code or requirements cannot be installed; with the message.
            WorkerLost: The lease is gone, or no worker was ready in time.
            NoCapacity: The backend cannot get what is missing.
            Superseded: Another driver took over.
        """
        if self._deadline is None:
            self._deadline = now + self._timeout_s
            self._next_probe = now + _PROBE_EVERY_S
        self._look()
        # Who left without having been ready is replaced by its backend, or missing: work begins.
        there_or_left = sum(w.slots for w in [*self.ready, *self._left])
        if (self.ready and there_or_left >= self._wanted) or self._enough():
            return None
        if now >= self._next_probe:
            self._next_probe = now + _PROBE_EVERY_S
            if self._alive_without_workers():
                return None
        if now >= self._deadline:
            if self.ready:  # fewer workers than ordered are slower, but not wrong
                log.warning("%d of %d workers are ready", len(self.ready), self._wanted)
                return None
            raise self._lost(f"had no ready worker after {self._timeout_s:.0f} s")
        return self._pause_s

    def _alive_without_workers(self) -> bool:
        """Ask the provider; True if the lease is alive, so that waiting makes sense."""
        alive = probe(self._backend, self._lease)
        if alive is Liveness.ALIVE and Trait.JOBS in self._backend.traits:
            return True
        if alive is Liveness.GONE:
            # Its last record may have been written between the two checks.
            self._look()
            raise self._lost("ended before it was ready")
        self._wanted = self._tended()
        self._explain(self._lease)
        return False

    def _tended(self) -> int:
        """Let the backend replace machines that did not start; how many workers to wait for."""
        if isinstance(self._backend, TendsLeases):
            try:
                with self._only_open(self._lease):
                    return self._backend.tend(self._lease, self._ordered)
            except NoCapacity:
                raise
            except InfrastructureError as error:
                log.info("cannot tend lease %s now: %s", self._lease.lease_id, error)
        return self._ordered

    def _look(self) -> None:
        """Read the workers' records.

        Raises:
            RunFailed: The user's code or requirements cannot be installed.
        """
        there = self._mailbox.workers(self._seen, settled=("ready",))
        workers_of_lease = [w for w in there if w.lease == self._lease.lease_id]
        for worker in workers_of_lease:
            if worker.state == "failed":
                raise RunFailed(
                    f"worker {worker.worker} on {worker.host} could not be set up: "
                    f"{worker.message}"
                )
        self.ready = [w for w in workers_of_lease if w.state == "ready"]
        self._left = [w for w in workers_of_lease if w.state == "leaving" and w.ready_at is None]

    def _lost(self, what: str) -> WorkerLost:
        try:
            lines = list(self._backend.logs(self._lease, None))[-5:]
        except (DrillyardError, OSError):
            lines = []
        messages = list(dict.fromkeys(w.message for w in self._left if w.message))[:3]
        why = f": {'; '.join(messages)}" if messages else ""
        last = why + ("; its last lines:\n  " + "\n  ".join(lines) if lines else "")
        return WorkerLost(
            f"lease {self._lease.lease_id} {what}{last}", hint="run the command again"
        )
