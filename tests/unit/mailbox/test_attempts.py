"""Attempts are counted in one place: every rule of it."""

import os
import random
import weakref

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import (
    Cancel,
    Claim,
    Ending,
    Phase,
    Reopened,
)
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import STATUS_OF, Cause, Status
from drillyard.mailbox.ticket_states import (
    CLAIMS,
    FEW,
    QUEUE,
    TRUST,
    StateCache,
    run_status,
    ticket_states,
)
from tests.helpers.records import accepted, ticket_of

RUN = "t0001-s1"
TRAIN, EVALUATE = f"{RUN}.train", f"{RUN}.evaluate"
WATCHED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Counted:
    """Counts reads of single objects, and listings."""

    gets = listings = 0

    def get(self, key):
        self.gets += 1
        return super().get(key)

    def keys(self, prefix):
        self.listings += 1
        return super().keys(prefix)


class CountedMemory(Counted, MemoryStore):
    """Without stamps, as a bucket is."""

    def keys(self, prefix):
        self.listings += 1
        return (info.key for info in self.list(prefix))


class CountedFolder(Counted, FileStore):
    """With stamps, so that a poll looks up what may have changed."""


@pytest.fixture(params=["memory", "folder"])
def mailbox(request, tmp_path):
    memory = request.param == "memory"
    yield Mailbox(
        CountedMemory("memory://attempts") if memory else CountedFolder(str(tmp_path)), "x"
    )
    MemoryStore.forget("memory://attempts")


def post(mailbox, ticket=TRAIN, phase=Phase.TRAIN, after=(), order=0, run=RUN):
    mailbox.post(ticket_of(run, phase, ticket=ticket, after=list(after), order=order))


def claim(mailbox, attempt, ticket=TRAIN):
    mailbox.claim(Claim(ticket=ticket, attempt=attempt, worker="w", token="t", claimed_at=0.0))


def end(mailbox, attempt, cause=None, ticket=TRAIN):
    claim(mailbox, attempt, ticket)
    status = STATUS_OF[cause] if cause else Status.SUCCEEDED
    mailbox.end(
        Ending(ticket=ticket, attempt=attempt, status=status, cause=cause, by="w", ended_at=0.0)
    )


def accept(mailbox, attempt):
    mailbox.create(
        f"runs/{RUN}/train.accepted.json",
        accepted(RUN, attempt=attempt),
    )


def state(mailbox, ticket=TRAIN, polls=1):
    """Read anew; a reader that has watched since the beginning of the test sees the same."""
    found = ticket_states(mailbox)
    cache = WATCHED.setdefault(mailbox, StateCache())
    seen = [ticket_states(mailbox, cache) for _ in range(polls)]
    assert seen[-1] == found and list(seen[-1]) == list(found)
    return found[ticket]


def short(mailbox, ticket=TRAIN, polls=1):
    found = state(mailbox, ticket, polls)
    return found.status, found.attempt, found.claimable


def test_posted_claimed_ended(mailbox):
    post(mailbox)
    assert short(mailbox) == (Status.READY, None, 1)
    claim(mailbox, 1)
    assert short(mailbox) == (Status.RUNNING, 1, None)
    end(mailbox, 1)
    assert short(mailbox) == (Status.SUCCEEDED, 1, None)


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.CANCELLED])
def test_each_cause_has_its_own_budget(mailbox, cause):
    post(mailbox)
    for attempt in range(1, RETRIES[cause] + 1):
        end(mailbox, attempt, cause)
        waits = Status.PREEMPTED if cause is Cause.PREEMPTION else Status.READY
        assert short(mailbox) == (waits, attempt, attempt + 1)
    end(mailbox, RETRIES[cause] + 1, cause)
    assert short(mailbox) == (STATUS_OF[cause], RETRIES[cause] + 1, None)
    assert state(mailbox).ending.cause is cause


def test_causes_do_not_eat_each_others_budget(mailbox):
    post(mailbox)
    causes = [Cause.PREEMPTION, Cause.INFRASTRUCTURE] * 5 + [Cause.OUT_OF_MEMORY]
    for attempt, cause in enumerate(causes, start=1):
        end(mailbox, attempt, cause)
    assert short(mailbox) == (Status.READY, 11, 12)
    end(mailbox, 12, Cause.OUT_OF_MEMORY)
    assert short(mailbox) == (Status.FAILED, 12, None)


def test_cancelled_endings_use_up_nothing_but_nothing_is_claimable_meanwhile(mailbox):
    post(mailbox)
    post(mailbox, EVALUATE, Phase.EVALUATE, after=[TRAIN], order=1)
    cancel = Cancel(reason="r", by="b", written_at=0.0)
    mailbox.write("control/cancel.json", cancel)
    for attempt in range(1, 10):
        end(mailbox, attempt, Cause.CANCELLED)
    assert short(mailbox) == (Status.CANCELLED, 9, None)
    assert short(mailbox, EVALUATE) == (Status.CANCELLED, None, None)
    mailbox.store.delete(mailbox.key("control/cancel.json"))
    assert short(mailbox) == (Status.READY, 9, 10)
    assert short(mailbox, EVALUATE) == (Status.PENDING, None, None)


def test_what_runs_during_a_cancel_is_running(mailbox):
    post(mailbox)
    claim(mailbox, 1)
    mailbox.write("control/cancel.json", Cancel(reason="r", by="b", written_at=0.0))
    assert short(mailbox) == (Status.RUNNING, 1, None)


def test_a_claim_just_before_a_cancel_is_running_also_if_both_come_during_the_look(
    mailbox, monkeypatch
):
    post(mailbox)
    cache, real = StateCache(), mailbox.cancelled
    ticket_states(mailbox, cache)

    def late():
        if real() is None:
            claim(mailbox, 1)
            mailbox.write("control/cancel.json", Cancel(reason="enough", by="me", written_at=0.0))
        return real()

    monkeypatch.setattr(mailbox, "cancelled", late)
    assert ticket_states(mailbox, cache)[TRAIN].status is Status.RUNNING


def test_a_reopened_run_gets_new_attempts(mailbox):
    post(mailbox)
    end(mailbox, 1, Cause.USER_ERROR)
    assert state(mailbox).status is Status.FAILED
    mailbox.write("control/reopened.json", Reopened(after={TRAIN: 1}))
    assert short(mailbox) == (Status.READY, 1, 2)
    end(mailbox, 2, Cause.USER_ERROR)
    assert short(mailbox) == (Status.FAILED, 2, None)


def test_a_success_whose_result_was_removed_can_be_reopened(mailbox):
    post(mailbox)
    end(mailbox, 1)
    cache = StateCache()
    assert ticket_states(mailbox, cache)[TRAIN].status is Status.SUCCEEDED
    mailbox.write("control/reopened.json", Reopened(after={TRAIN: 1}))
    assert ticket_states(mailbox, cache)[TRAIN].claimable == 2


def test_an_accepted_result_beats_a_buried_attempt(mailbox):
    post(mailbox)
    post(mailbox, EVALUATE, Phase.EVALUATE, after=[TRAIN])
    accept(mailbox, 1)
    end(mailbox, 1, Cause.INFRASTRUCTURE)
    assert short(mailbox) == (Status.SUCCEEDED, 1, None)
    assert short(mailbox, EVALUATE) == (Status.READY, None, 1)


def test_dependents_wait_and_fall_with_their_predecessor(mailbox):
    # Posted before its predecessor in the listing's order: the order of keys means nothing.
    post(mailbox, EVALUATE, Phase.EVALUATE, after=[TRAIN], order=1)
    assert short(mailbox, EVALUATE) == (Status.PENDING, None, None)
    post(mailbox)
    assert short(mailbox, EVALUATE) == (Status.PENDING, None, None)
    end(mailbox, 1, Cause.TIME_LIMIT)
    assert short(mailbox, EVALUATE) == (Status.TIMED_OUT, None, None)
    assert state(mailbox, EVALUATE).ending.ticket == TRAIN
    mailbox.write("control/reopened.json", Reopened(after={TRAIN: 1}))
    assert short(mailbox, EVALUATE) == (Status.PENDING, None, None)
    end(mailbox, 2)
    assert short(mailbox, EVALUATE) == (Status.READY, None, 1)


def test_queue_order(mailbox):
    post(mailbox, "b.train", order=2)
    post(mailbox, "c.train", order=1)
    post(mailbox, "a.train", order=2)
    assert list(ticket_states(mailbox)) == ["c.train", "a.train", "b.train"]


def test_a_poll_reads_what_never_changes_once(mailbox):
    for number in range(20):
        post(mailbox, f"r{number:02d}.train")
        end(mailbox, 1, Cause.INFRASTRUCTURE, ticket=f"r{number:02d}.train")
    cache = StateCache()
    first = ticket_states(mailbox, cache)
    mailbox.store.gets = 0
    again = ticket_states(mailbox, cache)
    assert mailbox.store.gets == 2  # reopened and cancel
    assert again == first
    assert all(again[name] is state for name, state in first.items())
    claim(mailbox, 2, ticket="r05.train")
    moved = ticket_states(mailbox, cache)
    assert [name for name in moved if moved[name] is not again[name]] == ["r05.train"]


def test_a_poll_of_a_folder_lists_seldom(tmp_path):
    """A study of a thousand trials has six thousand claims and endings, and a few open tickets."""
    mailbox, cache = Mailbox(CountedFolder(str(tmp_path)), "x"), StateCache()
    for number in range(20):
        post(mailbox, f"r{number:02d}.train")
    os.utime(tmp_path / "x" / QUEUE, (1.0, 1.0))  # nothing was posted a moment ago
    ticket_states(mailbox, cache)
    mailbox.store.listings = 0
    for number in range(TRUST):
        claim(mailbox, 1, ticket=f"r{number:02d}.train")
        assert ticket_states(mailbox, cache)[f"r{number:02d}.train"].status is Status.RUNNING
    assert mailbox.store.listings == 0


def test_a_poll_of_a_folder_with_many_open_tickets_lists_once(tmp_path):
    mailbox, cache = Mailbox(CountedFolder(str(tmp_path)), "x"), StateCache()
    for number in range(FEW + 1):
        post(mailbox, f"r{number:02d}.train")
    ticket_states(mailbox, cache)
    mailbox.store.listings = 0
    claim(mailbox, 1, ticket="r07.train")
    assert ticket_states(mailbox, cache)["r07.train"].status is Status.RUNNING
    assert mailbox.store.listings <= 2


def test_a_chain_that_was_done_between_two_polls_is_seen_at_once(tmp_path):
    """The first look finds the first one's ending; the folder does not change again."""
    mailbox, cache = Mailbox(CountedFolder(str(tmp_path)), "x"), StateCache()
    tickets = [f"{RUN}.{phase.value}" for phase in (Phase.TRAIN, Phase.EVALUATE, Phase.STORE)]
    for ticket, before in zip(tickets, [None, *tickets], strict=False):
        post(mailbox, ticket, Phase(ticket.rpartition(".")[2]), [before] if before else [])
    ticket_states(mailbox, cache)
    for ticket in tickets:
        end(mailbox, 1, ticket=ticket)
    os.utime(tmp_path / "x" / CLAIMS, (1.0, 1.0))
    found = ticket_states(mailbox, cache)
    assert {state.status for state in found.values()} == {Status.SUCCEEDED}


@pytest.mark.parametrize("seed", range(3))
def test_a_reader_that_polls_sees_what_a_new_reader_sees(mailbox, seed):
    dice, posted = random.Random(seed), 0
    for _ in range(80):
        run = f"t{posted:04d}-s1"
        kind = dice.choice(["post", "claim", "claim", "end", "end", "both", "reopen", "none"])
        if kind == "post" or not posted:
            posted += 1
            train, store = f"{run}.train", f"{run}.store"
            pairs = [(train, Phase.TRAIN, ()), (store, Phase.STORE, [train])]
            for ticket, phase, after in pairs if dice.random() < 0.8 else pairs[::-1]:
                post(mailbox, ticket, phase, after, order=dice.randrange(3), run=run)
        elif kind == "reopen":
            some = {t: dice.randrange(3) for t in ticket_states(mailbox) if dice.random() < 0.1}
            mailbox.write("control/reopened.json", Reopened(after=some))
        else:
            found = list(ticket_states(mailbox).values())
            one = dice.choice([s for s in found if s.claimable or s.status is Status.RUNNING])
            attempt = one.claimable or one.attempt
            if kind in ("claim", "both"):
                claim(mailbox, attempt, one.ticket.ticket)
            if kind == "both" or (kind == "end" and one.status is Status.RUNNING):
                cause = dice.choice([None, Cause.INFRASTRUCTURE, Cause.PREEMPTION])
                end(mailbox, attempt, cause, one.ticket.ticket)
        if dice.random() < 0.6:  # a reader sees several changes at once
            state(mailbox, next(iter(ticket_states(mailbox))))


@pytest.mark.parametrize("what", ["ticket", "ending", "accepted", "reopened", "claim_keys"])
def test_what_could_not_be_read_is_seen_at_the_next_look(mailbox, monkeypatch, what):
    def away(*_args):
        raise StoreUnavailable("away")

    post(mailbox)
    claim(mailbox, 1)
    cache = StateCache()
    ticket_states(mailbox, cache)
    post(mailbox, EVALUATE, Phase.EVALUATE, after=[TRAIN])
    accept(mailbox, 1)
    end(mailbox, 1, Cause.INFRASTRUCTURE)
    cache.polls = TRUST  # the next one lists everything
    with monkeypatch.context() as patch:
        patch.setattr(mailbox, what, away)
        with pytest.raises(StoreUnavailable):
            ticket_states(mailbox, cache)
    found = ticket_states(mailbox, cache)
    assert found == ticket_states(mailbox)
    assert found[EVALUATE].status is Status.READY


def test_records_that_are_taken_away_are_forgotten(mailbox):
    post(mailbox)
    post(mailbox, EVALUATE, Phase.EVALUATE, after=[TRAIN])
    end(mailbox, 1)
    assert short(mailbox, EVALUATE) == (Status.READY, None, 1)
    mailbox.store.delete(mailbox.key(f"claims/{TRAIN}.1.ended.json"))
    assert short(mailbox, EVALUATE, TRUST + 1) == (Status.PENDING, None, None)
    end(mailbox, 1)
    assert short(mailbox, EVALUATE) == (Status.READY, None, 1)
    mailbox.store.delete(mailbox.key(f"queue/{TRAIN}.json"))
    assert short(mailbox, EVALUATE, TRUST + 1) == (Status.PENDING, None, None)
    assert TRAIN not in ticket_states(mailbox)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({}, Status.UNKNOWN),
        ({TRAIN: "ended", EVALUATE: "ended"}, Status.SUCCEEDED),
        ({TRAIN: "ended", EVALUATE: "claimed"}, Status.RUNNING),
        ({TRAIN: "posted", EVALUATE: "posted"}, Status.READY),
        ({TRAIN: "failed", EVALUATE: "posted"}, Status.FAILED),
        ({TRAIN: "preempted", EVALUATE: "posted"}, Status.PREEMPTED),
    ],
)
def test_the_status_of_a_run(mailbox, statuses, expected):
    after = []
    for ticket, what in statuses.items():
        post(mailbox, ticket, Phase(ticket.rpartition(".")[2]), after=after)
        after = [ticket]
        if what == "claimed":
            claim(mailbox, 1, ticket)
        elif what != "posted":
            causes = {"ended": None, "failed": Cause.USER_ERROR, "preempted": Cause.PREEMPTION}
            end(mailbox, 1, causes[what], ticket)
    assert run_status(ticket_states(mailbox), RUN) is expected
