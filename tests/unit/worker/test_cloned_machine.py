"""A machine that was cloned, or set back, while it worked: two processes with one identity.

The copy has the claim's token, so it may go on where the other one was. The first result stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Manifest, Phase, RunRecord, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM
from drillyard.worker.hand_in import HandIn

URL = "memory://cloned-machine"
RUN = "t0001-s1"
CLAIM = Claim(
    ticket=f"{RUN}.train", attempt=1, worker="w", lease="dy-0123456789", token="t", claimed_at=0.0
)
TICKET = TicketRecord(ticket=CLAIM.ticket, run=RUN, phase=Phase.TRAIN, posted_at=0.0)


@pytest.fixture
def mailbox():
    made = Mailbox(MemoryStore(URL), "x")
    assert made.claim(CLAIM)
    yield made
    MemoryStore.forget(URL)


def context(mailbox: Mailbox, scratch: Path) -> RunContext:
    """The work as either of the two sees it."""
    run = RunRecord(run=RUN, experiment="x", seed=1)
    spec = ExperimentSpec(name="x", workload="mock")
    return RunContext(spec, run, Phase.TRAIN, 1, CLAIM, mailbox, scratch)


def hand_in(mailbox: Mailbox, files: Manifest, ended_at: float) -> HandIn:
    return HandIn(mailbox, CLAIM, TICKET, PhaseOutcome(files=files), ended_at, SYSTEM)


def test_the_result_of_the_first_stays(mailbox, tmp_path):
    first, copy = context(mailbox, tmp_path), context(mailbox, tmp_path)
    slow = Manifest(files={"policy": copy.save("policy", b"of the copy")})
    files = Manifest(files={"policy": first.save("policy", b"of the first")})
    assert hand_in(mailbox, files, 1.0)().status is Status.SUCCEEDED
    accepted = mailbox.accepted(RUN, Phase.TRAIN)
    # The copy is a little behind: at a file, and at its manifest.
    with pytest.raises(Superseded, match="has a result already"):
        copy.save("policy", b"of the copy")
    ending = hand_in(mailbox, slow, 2.0)()
    assert ending.status is Status.SUCCEEDED and "result of attempt 1 is valid" in ending.message
    assert mailbox.accepted(RUN, Phase.TRAIN) == accepted and accepted is not None
    assert mailbox.read_file(mailbox.manifest(accepted), "policy") == b"of the first"


def test_an_answer_that_was_lost_is_no_copy(mailbox, tmp_path):
    files = Manifest(files={"policy": context(mailbox, tmp_path).save("policy", b"it")})
    call = hand_in(mailbox, files, 1.0)
    assert call().message == call().message == ""
