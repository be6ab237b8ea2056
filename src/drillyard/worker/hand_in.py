"""Turns the outcome of a phase into an accepted result."""

from __future__ import annotations

from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, Claim, Ending, TicketRecord
from drillyard.runs.workload import PhaseOutcome
from drillyard.system.clock import Clock
from drillyard.worker import endings


class HandIn:
    """Hands in a result. After an outage of the store, the next call continues.

    Args:
        mailbox: The experiment.
        claim: The claim of the work.
        ticket: The ticket.
        outcome: The outcome of the phase.
        started_at: When it began, seconds since the epoch.
        clock: For the stamps.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        claim: Claim,
        ticket: TicketRecord,
        outcome: PhaseOutcome,
        started_at: float,
        clock: Clock,
    ) -> None:
        self._mailbox = mailbox
        self._claim = claim
        self._outcome = outcome
        self._clock = clock
        self._path = (
            f"{mailbox.attempt_path(ticket.run, ticket.phase, claim.attempt)}/manifest.json"
        )
        # Created once: a second call with another time would not recognize its own record.
        self._accepted = Accepted(
            run=ticket.run,
            phase=ticket.phase,
            attempt=claim.attempt,
            status=outcome.status,
            manifest=self._path,
            manifest_sha256=sha256_hex(outcome.files.to_bytes()),
            summary=outcome.summary,
            started_at=started_at,
            ended_at=clock.now(),
        )

    def __call__(self) -> Ending:
        """Write the manifest and have it accepted.

        Returns:
            The ending of the attempt, to be written last.

        Raises:
            Superseded: The attempt belongs to another worker; its result does not count.
            StoreUnavailable: Call again.
        """
        mailbox, claim, accepted = self._mailbox, self._claim, self._accepted
        mailbox.must_own(claim)
        earlier = mailbox.accepted(accepted.run, accepted.phase)
        if earlier is None:  # else the manifest may be the one that was accepted
            mailbox.write(self._path, self._outcome.files)
            if mailbox.accept(claim, accepted):
                return endings.succeeded(claim, self._clock, status=accepted.status)
            earlier = mailbox.accepted(accepted.run, accepted.phase)
        elif earlier == accepted:  # the answer to an earlier call was lost
            return endings.succeeded(claim, self._clock, status=accepted.status)
        number = earlier.attempt if earlier else "?"
        # The attempt was closed just when it succeeded; its result is valid.
        return endings.succeeded(claim, self._clock, f"the result of attempt {number} is valid")
