"""Lost attempts: distinguishes dead workers from silent ones, and closes attempts of dead workers.

A claim without an ending belongs to its worker. It is lost if the worker's process is known to be
dead on this system, or if the worker was silent for long by the store's own clock AND the provider
says that its machine is gone. Silence alone proves nothing, and UNKNOWN is not GONE. A heartbeat
must also stay the same while the closer looks, because a clock that jumps makes all of them old.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from drillyard.backend import Backend, ExplainsLosses, Lease, Liveness
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.leases.ledger import Ledger
from drillyard.leases.places import Places, answering
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import process_alive
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import (
    WORKER_STATES,
    Accepted,
    Claim,
    Ending,
    WorkerRecord,
)
from drillyard.mailbox.silence import Silence
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.durations import duration

SILENT_S = 15.0
MENTIONED_S = 60.0
"""Silence after which it is said that a run waits for its machine."""
log = logging.getLogger(__name__)


def probe(backend: Backend, lease: Lease, ticket: str | None = None) -> Liveness:
    """Ask the provider; a failed request gives UNKNOWN."""
    try:
        return backend.probe(lease, ticket)
    except InfrastructureError as error:
        log.info("the state of lease %s cannot be read now: %s", lease.lease_id, error)
        return Liveness.UNKNOWN


@dataclass(frozen=True)
class _Heard:
    """A worker, and the time of its last heartbeat by the store's clock."""

    worker: WorkerRecord
    last_at: float


@dataclass(frozen=True)
class _Loss:
    """Why an attempt is lost."""

    reason: str
    cause: Cause = Cause.INFRASTRUCTURE


class LostAttemptCloser:
    """Closes attempts whose worker is dead.

    Args:
        mailbox: The experiment.
        backend: Backend of the leases, or several places.
        ledger: The leases of the experiment.
        by: Who closes them, for the record.
        clock: For the times in the record.
        silent_s: Seconds without a heartbeat after which the provider is asked.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        backend: Backend | Places,
        ledger: Ledger,
        by: str,
        clock: Clock = SYSTEM,
        silent_s: float = SILENT_S,
    ) -> None:
        self._mailbox = mailbox
        self._backend_of = answering(backend)
        self._ledger = ledger
        self._by = by
        self._clock = clock
        self._silent_s = silent_s
        self._claims: dict[tuple[str, int], Claim] = {}
        self._seen: WorkerCache = {}
        self._mentioned: set[tuple[str, int]] = set()
        self._silence = Silence()
        self.doubts = 0
        """Attempts of the last look whose heartbeat is old and was not watched for long enough."""

    def close_lost(self, states: Mapping[str, TicketState]) -> dict[str, str | None]:
        """End every lost attempt.

        Args:
            states: From ``ticket_states``.

        Returns:
            Each running ticket that is not lost, as far as known -> the lease of its worker; None
            if that is not known.
        """
        living = {}
        self.doubts = 0
        workers: dict[str, _Heard] | None = None
        for state in states.values():
            if state.status is not Status.RUNNING or state.attempt is None:
                continue
            if workers is None:
                workers = self._workers()
            claim = self._claim(state.ticket.ticket, state.attempt)
            loss = self._why_lost(claim, workers) if claim else None
            if claim is None or loss is None:
                heard = None if claim is None else workers.get(claim.worker)
                living[state.ticket.ticket] = None if heard is None else heard.worker.lease
            else:
                self._close(state, claim, loss)
        return living

    def _workers(self) -> dict[str, _Heard]:
        """One listing shows how long each was silent; each record is read once."""
        self._mailbox.workers(self._seen, settled=WORKER_STATES)
        return {w.worker: _Heard(w, info.updated_at) for info, w in self._seen.values()}

    def _claim(self, ticket: str, attempt: int) -> Claim | None:
        key = (ticket, attempt)
        if key not in self._claims:
            claim = self._mailbox.read_claim(ticket, attempt)
            if claim is None:
                return None
            self._claims[key] = claim
        return self._claims[key]

    def _why_lost(self, claim: Claim, workers: Mapping[str, _Heard]) -> _Loss | None:
        heard = workers.get(claim.worker)
        if heard is None:
            return None  # without a record of the worker, its lease is unknown
        worker = heard.worker
        alive = process_alive(worker)
        if alive is not None:
            text = f"process {worker.pid} of worker {claim.worker} is dead"
            return None if alive else _Loss(text)
        # A stamp may also be old by a clock that differs from the store's.
        works = self._silence.changed(worker.worker, heard.last_at)
        same = self._silence.seconds(
            worker.worker, heard.last_at, self._clock.monotonic(), self._silent_s / 2
        )
        silent = self._mailbox.store.now() - heard.last_at
        if works or silent < self._silent_s:
            return None
        if same < self._silent_s:
            self.doubts += 1
            return None
        entry = self._ledger.entry(worker.lease)
        if entry is None:
            return None
        if entry.open and self._alive(entry.lease, claim.ticket):
            self._mention(claim, worker, silent)
            return None
        text = f"worker {claim.worker} was silent for {duration(silent)} and its machine is gone"
        return _Loss(text, self._cause(entry.lease, claim.ticket))

    def _mention(self, claim: Claim, worker: WorkerRecord, silent: float) -> None:
        """Says once that an attempt waits, because its machine may still work on it."""
        key = (claim.ticket, claim.attempt)
        if silent < MENTIONED_S or key in self._mentioned:
            return
        self._mentioned.add(key)
        log.warning(
            "%s waits: its worker %s on %s has sent no heartbeat for %s, and may still work. "
            "Another worker continues it once the machine answers, or is known to be gone",
            *(claim.ticket, claim.worker, worker.host or "another machine", duration(silent)),
        )

    def _alive(self, lease: Lease, ticket: str) -> bool:
        """False only if the provider says that a lease, or the machine of a ticket, is gone."""
        try:
            backend = self._backend_of(lease)
        except UserError as error:  # a backend that cannot be asked from here says nothing
            log.info("the state of lease %s cannot be read: %s", lease.lease_id, error)
            return True
        return probe(backend, lease, ticket) is not Liveness.GONE

    def _cause(self, lease: Lease, ticket: str) -> Cause:
        """Preemptions have a larger budget of attempts: the provider is asked where it tells."""
        try:
            backend = self._backend_of(lease)
            if isinstance(backend, ExplainsLosses):
                return backend.lost_to(lease, ticket)
        except DrillyardError as error:
            log.info("why %s was lost cannot be found out now: %s", ticket, error)
        return Cause.INFRASTRUCTURE

    def _close(self, state: TicketState, claim: Claim, loss: _Loss) -> None:
        accepted = self._mailbox.accepted(state.ticket.run, state.ticket.phase)
        self._claims.pop((claim.ticket, claim.attempt), None)
        if self._mailbox.end(self._ending(claim, accepted, loss)):
            log.warning("attempt %d of %s is lost: %s", claim.attempt, claim.ticket, loss.reason)

    def _ending(self, claim: Claim, accepted: Accepted | None, loss: _Loss) -> Ending:
        done = accepted is not None and accepted.attempt == claim.attempt
        lost = Status.PREEMPTED if loss.cause is Cause.PREEMPTION else Status.FAILED
        return Ending(
            ticket=claim.ticket,
            attempt=claim.attempt,
            status=Status.SUCCEEDED if done else lost,
            cause=None if done else loss.cause,
            message=loss.reason,
            hint=None if done else "the next attempt continues from the last checkpoint, if any",
            by=self._by,
            ended_at=self._clock.now(),
        )
