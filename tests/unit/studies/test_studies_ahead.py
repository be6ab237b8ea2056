"""What a study posts before a worker is free: all that is listed where the lid may close."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.studies.search import Search
from tests.helpers.records import driver_of_process, failed
from tests.helpers.searches import begun, study_file

WORKERS, MANY = 2, 12
GCP = {"backend": "gcp", "budget": {"max_hours": 1, "max_cost": 10}}


@pytest.fixture
def mailbox():
    yield Mailbox(MemoryStore("memory://ahead"), "s")
    MemoryStore.forget("memory://ahead")


def ahead(mailbox: Mailbox, folder: Path, study: dict[str, Any], **more: Any) -> Search:
    """A study that has posted what it posts at first, under a driver of another machine."""
    listed = {"chooser": "list", "experiments": [{"seeds": [n]} for n in range(1, MANY + 1)]}
    given = {"parameters": None, "mock": None, "resources": {"workers": WORKERS}, **more}
    file = study_file(folder, {**listed, **study}, **given)
    mailbox.write("driver/1.json", driver_of_process(command=[]))
    return begun(mailbox, file)


@pytest.mark.parametrize(
    ("study", "more", "posted"),
    [
        ({}, GCP, MANY),
        ({}, {}, 2 * WORKERS),
        ({"budget": {"steps": 1000}}, GCP, 2 * WORKERS),
    ],
)
def test_how_much_is_posted(mailbox, tmp_path, study, more, posted):
    search = ahead(mailbox, tmp_path, study, **more)
    assert len(list(mailbox.ticket_ids())) == 3 * posted
    search.close()


def test_what_was_posted_ahead_is_not_begun_after_too_many_failures(mailbox, tmp_path):
    search = ahead(mailbox, tmp_path, {"max_failures": 3}, **GCP)
    for name in [t for t in ticket_states(mailbox) if t.endswith(".train")][:3]:
        claim = Claim(ticket=name, attempt=1, worker="w", token="t", claimed_at=0.0)
        mailbox.claim(claim)
        mailbox.end(failed(name, Cause.USER_ERROR, message="bad"))
    search.advance()
    states = ticket_states(mailbox)
    assert not any(state.claimable for state in states.values())
    search.advance()
    assert search.over
    ends = [outcome.status for outcome in search.outcomes.values()]
    assert (ends.count(Status.FAILED), ends.count(Status.PRUNED)) == (3, MANY - 3)
    search.close()
