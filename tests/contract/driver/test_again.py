"""The same experiment again: what is skipped, opened, repeated, refused and taken back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.errors import (
    IdentityChanged,
    Stopped,
    UserError,
)
from drillyard.mailbox.records import Phase
from tests.helpers.lives import TICKETS, life
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny

pytestmark = pytest.mark.heavy


def test_a_complete_experiment_rents_nothing(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    again = ThreadBackend()
    assert Driver(tiny(folder), mailbox, again).open() == []
    assert again.provisions == []
    assert [d.outcome for d in mailbox.drivers()] == ["done", "complete"]


def test_more_seeds_go_on_and_keep_what_is_there(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, seeds=[1, 2, 7]), mailbox, ThreadBackend()))
    assert set(results) == {f"t0001-s7.{p}" for p in ("train", "evaluate", "store")}
    accepted = mailbox.accepted("t0001-s1", Phase.TRAIN)
    assert accepted is not None and accepted.attempt == 1


def test_a_larger_budget_opens_every_run_again(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, train={"steps": 200}), mailbox, ThreadBackend()))
    assert results == {t: f"{t} by attempt 2" for t in TICKETS}
    assert mailbox.experiment_record().spec["train"]["steps"] == 200
    aside = mailbox.key("runs/t0001-s1/superseded/train-1.accepted.json")
    assert mailbox.store.stat(aside) is not None
    with pytest.raises(IdentityChanged, match=r"train\.steps: 200 -> 150"):
        Driver(tiny(folder, train={"steps": 150}), mailbox, ThreadBackend()).open()


def test_other_evaluation_repeats_evaluation_only(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, evaluate={"episodes": 3}), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if not t.endswith("train")}


def test_another_target_repeats_the_store_phase_only(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, store=[{"url": "/data"}]), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if t.endswith("store")}


def test_a_damaged_result_is_made_again_with_what_follows(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    key = mailbox.key("runs/t0001-s2/attempts/evaluate-1/result.txt")
    mailbox.store.put(key, mailbox.store.get(key).replace(b"attempt", b"attempd"))
    said: list[str] = []
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(), on_line=said.append))
    assert set(results) == {"t0001-s2.evaluate", "t0001-s2.store"}
    assert results["t0001-s2.evaluate"] == "t0001-s2.evaluate by attempt 2"
    assert "t0001-s2: the result of evaluate is damaged and will be repeated" in said
    assert Driver(tiny(folder), mailbox, ThreadBackend()).open() == []


def test_a_crash_between_deleting_and_forgiving_is_mended(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    mailbox.store.delete(mailbox.key("runs/t0001-s1/store.accepted.json"))
    results = life(Driver(tiny(folder), mailbox, ThreadBackend()))
    assert results == {"t0001-s1.store": "t0001-s1.store by attempt 2"}


def test_other_code_is_refused_with_the_difference(folder, mailbox):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    before = sorted(i.key for i in mailbox.store.list("tiny/"))
    (folder / "world.py").write_text("GRAVITY = 1.62\n")
    (folder / "other.py").write_text("NEW = 1\n")
    (folder / "experiment.schema.json").write_text("{}")  # for editors: no code
    with pytest.raises(IdentityChanged) as refused:
        Driver(tiny(folder), mailbox, ThreadBackend()).open()
    assert "the code in the experiment's folder changed: new other.py, changed world.py" in str(
        refused.value
    )
    with pytest.raises(IdentityChanged, match="threads: 1 -> 2"):
        Driver(tiny(folder, resources={"threads": 2}), mailbox, ThreadBackend()).open()
    assert sorted(i.key for i in mailbox.store.list("tiny/")) == before
    assert Driver(tiny(folder), mailbox, ThreadBackend(), allow_change=True).open() == []
    assert "training.code" in str(mailbox.experiment_record().history)


def test_what_nobody_has_begun_may_still_change(folder, mailbox):
    first = Driver(tiny(folder), mailbox, ThreadBackend())
    first.open()
    first.close("setup failed")
    second = Driver(tiny(folder, resources={"threads": 2}), mailbox, ThreadBackend())
    assert second.open() != []
    assert {r.threads for r in mailbox.runs()} == {2}
    second.close("done")


def test_settings_do_not_change_under_a_working_run(folder, mailbox):
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return "x"

    first = Driver(tiny(folder), mailbox, ThreadBackend(slow))
    first.open()
    first.provision()
    until(lambda: any(mailbox.claims()))
    first.close("left")
    with pytest.raises(UserError, match="while a worker is working on t0001-s1"):
        Driver(tiny(folder, train={"steps": 500}), mailbox, ThreadBackend()).open()
    assert mailbox.experiment_record().spec["train"]["steps"] == 100
    hold.set()


def test_stop_ends_waiting_and_the_same_command_resumes(folder, mailbox):
    def until_stopped(worker: Worker, ticket: Any, attempt: int) -> str:
        if attempt == 1 and ticket.ticket == "t0001-s1.train":
            until(lambda: worker.mailbox.cancelled() is not None)
            worker.end.set()
        return good_work(worker, ticket, attempt)

    driver = Driver(tiny(folder), mailbox, ThreadBackend(until_stopped))
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    until(lambda: any(mailbox.claims()))
    driver.stop("Ctrl-C")
    for ticket in TICKETS:
        with pytest.raises(Stopped, match="Ctrl-C") as caught:
            driver.wait(ticket, PATIENCE_S)
        assert "drillyard resume tiny" in str(caught.value.hint)
    driver.teardown()
    driver.close("cancelled")
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(until_stopped)))
    assert results["t0001-s1.train"] == "t0001-s1.train by attempt 2"
    assert results["t0001-s2.train"] == "t0001-s2.train by attempt 1"


def test_seeds_that_nobody_began_are_taken_back(folder, mailbox):
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    driver.open()
    driver.close("left")
    results = life(Driver(tiny(folder, seeds=[2]), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if "s2" in t}
    assert mailbox.accepted("t0001-s1", Phase.TRAIN) is None
