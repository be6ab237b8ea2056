"""An attempt that was closed as lost hands nothing in, though its claim is still there."""

import pytest

from drillyard.errors import Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Accepted, Claim, Ending, Phase
from drillyard.mailbox.status import Cause, Status

CLAIM = Claim(ticket="t0001-s1.train", attempt=1, worker="w1", token="a", claimed_at=0.0)
RESULT = Accepted(
    run="t0001-s1",
    phase=Phase.TRAIN,
    attempt=1,
    status=Status.SUCCEEDED,
    manifest="runs/t0001-s1/attempts/train-1/manifest.json",
    manifest_sha256="0" * 64,
    started_at=0.0,
    ended_at=1.0,
)


def claimed(place: str) -> Mailbox:
    mailbox = Mailbox(MemoryStore(f"memory://closed-{place}"), "toy")
    assert mailbox.claim(CLAIM)
    return mailbox


def ending(status: Status, cause: Cause | None) -> Ending:
    return Ending(
        ticket=CLAIM.ticket, attempt=1, status=status, cause=cause, by="driver 1", ended_at=1.0
    )


@pytest.mark.parametrize(
    ("status", "cause"),
    [(Status.FAILED, Cause.INFRASTRUCTURE), (Status.PREEMPTED, Cause.PREEMPTION)],
)
def test_no_result_of_an_attempt_that_was_closed_as_lost_is_accepted(status, cause):
    mailbox = claimed(status.value)
    mailbox.must_own(CLAIM)
    assert mailbox.end(ending(status, cause))
    with pytest.raises(Superseded, match="was ended by driver 1"):
        mailbox.accept(CLAIM, RESULT)
    assert mailbox.accepted("t0001-s1", Phase.TRAIN) is None


def test_an_attempt_whose_success_was_written_already_hands_in_the_same_again():
    mailbox = claimed("success")
    assert mailbox.accept(CLAIM, RESULT)
    assert mailbox.end(ending(Status.SUCCEEDED, None))
    assert mailbox.accept(CLAIM, RESULT)
