"""The same command again: what it repeats, what it keeps, and what it refuses.

Nobody works here but the test: it claims and ends tickets itself, so that no time passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError, Superseded, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Cancel, Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from tests.helpers.records import claim_of, failed, result_of, tell_worker
from tests.helpers.tiny_backend import ThreadBackend, tiny

TICKETS = [f"t0001-s{seed}.{phase.value}" for seed in (1, 2) for phase in PHASES]
"""In the order of the runs and phases, and so below."""


def opened(folder: Path, mailbox: Mailbox, **changes: Any) -> list[str]:
    """The tickets that a command finds open; its driver is closed again."""
    driver = Driver(tiny(folder, **changes), mailbox, ThreadBackend())
    tickets = {record.ticket for record in driver.open()}
    driver.close("left")
    return [ticket for ticket in TICKETS if ticket in tickets]


def work(mailbox: Mailbox, *tickets: str, attempt: int = 1) -> None:
    """Do tickets as a worker does."""
    for ticket in tickets:
        run, _, phase = ticket.rpartition(".")
        claim = claim_of(ticket, attempt, token=f"{ticket}/{attempt}")
        assert mailbox.claim(claim)
        made = {"result.txt": f"{ticket} by attempt {attempt}".encode()}
        assert mailbox.accept(claim, result_of(mailbox, run, Phase(phase), made, attempt))
        over = failed(ticket, attempt=attempt, status=Status.SUCCEEDED)
        mailbox.end(over.model_copy(update={"cause": None}))


def lose(mailbox: Mailbox, ticket: str, status: Status = Status.FAILED, **more: Any) -> None:
    """End a ticket's first attempt for good."""
    mailbox.claim(claim_of(ticket, token=ticket))
    mailbox.end(failed(ticket, more.pop("cause", Cause.USER_ERROR), status=status, **more))


def test_the_first_command_posts_every_phase_of_every_run(folder, mailbox):
    assert opened(folder, mailbox) == TICKETS
    assert {*ticket_states(mailbox)} == {*TICKETS}
    assert [d.outcome for d in mailbox.drivers()] == ["left"]


def test_what_is_finished_is_not_opened_again(folder, mailbox):
    opened(folder, mailbox)
    work(mailbox, *TICKETS[:4])
    assert opened(folder, mailbox) == TICKETS[4:]
    work(mailbox, *TICKETS[4:])
    assert opened(folder, mailbox) == []
    assert [d.outcome for d in mailbox.drivers()] == ["left", "left", "complete"]


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (Status.FAILED, Cause.USER_ERROR),
        (Status.TIMED_OUT, Cause.TIME_LIMIT),
    ],
)
def test_what_ended_without_a_result_is_tried_again_and_its_number_kept(
    folder, mailbox, status, cause
):
    opened(folder, mailbox)
    lose(mailbox, TICKETS[0], status, cause=cause, message="x")
    assert ticket_states(mailbox)[TICKETS[0]].status is status
    assert opened(folder, mailbox) == TICKETS
    state = ticket_states(mailbox)[TICKETS[0]]
    assert not state.status.ended and state.claimable == 2
    assert mailbox.reopened().after == {TICKETS[0]: 1}, "others were never claimed"
    work(mailbox, TICKETS[0], attempt=2)
    assert opened(folder, mailbox) == TICKETS[1:]
    assert mailbox.reopened().after == {TICKETS[0]: 1}, "a success is not forgiven"


def test_what_may_begin_once_is_not_begun_again_by_another_driver(folder, mailbox):
    opened(folder, mailbox)
    for key in mailbox.ticket_keys():
        record = mailbox.ticket(mailbox.ticket_of(key))
        mailbox.write(f"queue/{record.ticket}.json", record.model_copy(update={"attempts": 1}))
    assert opened(folder, mailbox) == TICKETS, "nothing has begun"
    lose(mailbox, TICKETS[0], cause=Cause.INFRASTRUCTURE, message="its machine is gone")
    assert opened(folder, mailbox) == TICKETS[3:]
    work(mailbox, *TICKETS[3:])
    mailbox.store.put(mailbox.key("runs/t0001-s2/attempts/train-1/result.txt"), b"other")
    assert opened(folder, mailbox) == [], "nor is it repeated for a damaged result"
    assert mailbox.reopened().after == {}


def test_the_generation_of_a_ticket_counts_what_was_forgiven(folder, mailbox):
    opened(folder, mailbox)
    lose(mailbox, TICKETS[0], message="x")
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    assert driver.generation(TICKETS[0]) == 0
    driver.open()
    assert driver.generation(TICKETS[0]) == 1
    assert driver.generation(TICKETS[1]) == 0


def test_an_order_to_stop_ends_with_the_next_command(folder, mailbox):
    opened(folder, mailbox)
    mailbox.write("control/cancel.json", Cancel(reason="enough", by="x", written_at=0.0))
    assert opened(folder, mailbox) == TICKETS
    assert mailbox.cancelled() is None


def test_a_damaged_result_is_made_again_with_what_follows(folder, mailbox):
    opened(folder, mailbox)
    work(mailbox, *TICKETS)
    key = mailbox.key("runs/t0001-s2/attempts/evaluate-1/result.txt")
    mailbox.store.put(key, b"other")
    said: list[str] = []
    driver = Driver(tiny(folder), mailbox, ThreadBackend(), on_line=said.append)
    assert {t.ticket for t in driver.open()} == {*TICKETS[4:]}
    assert "t0001-s2: the result of evaluate is damaged and will be repeated" in said
    for phase in (Phase.EVALUATE, Phase.STORE):
        assert mailbox.accepted("t0001-s2", phase) is None
        aside = mailbox.key(f"runs/t0001-s2/superseded/{phase.value}-1.accepted.json")
        assert mailbox.store.stat(aside) is not None, "it is kept"
    assert mailbox.accepted("t0001-s2", Phase.TRAIN) is not None
    assert mailbox.reopened().after == {TICKETS[4]: 1, TICKETS[5]: 1}


def test_a_result_that_is_missing_counts_as_damaged(folder, mailbox):
    opened(folder, mailbox)
    work(mailbox, *TICKETS)
    mailbox.store.delete(mailbox.key("runs/t0001-s1/store.accepted.json"))
    assert opened(folder, mailbox) == ["t0001-s1.store"]


def test_a_larger_budget_opens_all_and_other_evaluations_what_follows(folder, mailbox):
    opened(folder, mailbox)
    work(mailbox, *TICKETS)
    later = [t for t in TICKETS if not t.endswith("train")]
    assert opened(folder, mailbox, evaluate={"episodes": 3}) == later
    assert opened(folder, mailbox, train={"steps": 200}, evaluate={"episodes": 3}) == TICKETS
    assert mailbox.experiment_record().spec["train"]["steps"] == 200


def test_settings_that_nobody_has_begun_with_are_written_again(folder, mailbox):
    opened(folder, mailbox)
    assert opened(folder, mailbox, resources={"threads": 2}) == TICKETS
    assert {run.threads for run in mailbox.runs()} == {2}


def test_settings_do_not_change_under_a_worker(folder, mailbox):
    opened(folder, mailbox)
    mailbox.claim(claim_of(TICKETS[3], worker="w"))
    tell_worker(mailbox, "w", "dy-0000000000", host="elsewhere")
    with pytest.raises(UserError, match="while a worker is working on t0001-s2") as refused:
        opened(folder, mailbox, train={"steps": 200})
    assert refused.value.hint is not None and "drillyard cancel tiny" in refused.value.hint
    assert mailbox.experiment_record().spec["train"]["steps"] == 100, "nothing was written"
    assert mailbox.drivers()[-1].outcome == "refused", "the next command need not wait for it"


def test_a_driver_that_cannot_open_ends_itself(folder, mailbox, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drillyard.driver.driver.reconcile", broken)
    with pytest.raises(KeyboardInterrupt):
        opened(folder, mailbox)
    assert [d.outcome for d in mailbox.drivers()] == ["refused"]


def test_a_superseded_driver_writes_over_nothing_while_it_opens(folder, mailbox, monkeypatch):
    opened(folder, mailbox)
    lose(mailbox, TICKETS[0], message="x")
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    asked = iter(range(100))

    def must_drive() -> None:
        if next(asked) >= least:
            raise Superseded("driver 3 took over")

    monkeypatch.setattr(driver._lock, "must_drive", must_drive)
    least = 0
    before = {i.key: mailbox.store.get(i.key) for i in mailbox.store.list("tiny/control/")}
    with pytest.raises(DrillyardError):
        driver.open()
    after = {i.key: mailbox.store.get(i.key) for i in mailbox.store.list("tiny/control/")}
    assert after == before
