"""Streams of points: written once, and read from where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import (
    AttemptStart,
    Phase,
    RunRecord,
)
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.metrics.follow import Feed, Point
from drillyard.metrics.reader import StreamReader
from drillyard.metrics.streams import StreamWriter, read_stream
from drillyard.spec import ExperimentSpec
from drillyard.studies.pruning import Judge
from drillyard.testing.clock import FakeClock
from tests.helpers.counting_store import CountingStore
from tests.helpers.records import ticket_of

# -- What is read again and again costs the same however long the run is ----------------------


URL = "memory://reader"
RUN = "t0001-s1"
LOOKS = 100
"""A look, and a new segment of each stream, again and again."""


@pytest.fixture
def store():
    yield CountingStore(URL)
    MemoryStore.forget(URL)


@pytest.fixture
def mailbox(store):
    return Mailbox(store, "x")


def begin(mailbox: Mailbox, run: str = RUN, attempt: int = 1) -> StreamWriter:
    folder = mailbox.attempt_path(run, Phase.TRAIN, attempt)
    mailbox.write(f"{folder}/start.json", AttemptStart(attempt=attempt, started_at=0.0))
    return StreamWriter(Mailbox(MemoryStore(URL), "x"), run, attempt)


def one_more(writer: StreamWriter, step: int) -> None:
    for stream in ("train", "evaluation", "episodes"):
        writer.append(stream, step, {"eval/mean_reward": float(step)})
    writer.flush()


def test_a_look_reads_what_is_new(mailbox, store):
    writer = begin(mailbox)
    reader = StreamReader(mailbox, RUN)
    for step in range(LOOKS):
        one_more(writer, step)
        store.asked.clear()
        assert reader.look()
        assert [line["step"] for line in reader.lines("train")] == list(range(step + 1))
        assert store.asked.total() <= (4 if step else 6)
    assert reader.lines("train") == read_stream(mailbox, RUN, "train")


def test_a_segment_that_was_written_again_is_read_again(mailbox):
    """The answer to the first write was lost, so more lines went under the same name."""
    writer = begin(mailbox)
    writer.append("train", 1, {})
    writer.flush()
    reader = StreamReader(mailbox, RUN)
    assert reader.look() and len(reader.lines("train")) == 1
    again = StreamWriter(mailbox, RUN, 1)
    for step in (1, 2, 3):
        again.append("train", step, {})
    again.flush()
    assert reader.look()
    assert [line["step"] for line in reader.lines("train")] == [1, 2, 3]


def test_another_attempt_is_found(mailbox):
    one_more(begin(mailbox), 1)
    reader = StreamReader(mailbox, RUN)
    assert reader.look()
    reader.lines("train")
    writer = begin(mailbox, attempt=2)  # without a checkpoint: from the start
    one_more(writer, 7)
    assert reader.look()
    assert [line["step"] for line in reader.lines("train")] == [7]
    assert reader.lines("train") == read_stream(mailbox, RUN, "train")


def test_a_failed_read_loses_no_line(mailbox, store):
    writer = begin(mailbox)
    for step in (1, 2, 3):
        one_more(writer, step)
    reader = StreamReader(mailbox, RUN)
    reader.look()
    get, reads = store.get, iter(range(10))

    def fails_once(key: str) -> bytes:
        if next(reads) == 2:
            raise ConnectionError
        return get(key)

    store.get = fails_once  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        reader.lines("train")
    assert [line["step"] for line in reader.lines("train")] == [1, 2, 3]


def test_the_pruner_reads_what_is_new(mailbox, store):
    """724 requests a run after an hour, and 2,164 after three, were those of one look."""
    spec = ExperimentSpec.model_validate(
        {
            "schema": 1,
            "name": "x",
            "workload": "mock",
            "mock": {"metrics": ["score"]},
            "study": {
                "chooser": "random",
                "trials": 2,
                "objectives": [{"metric": "evaluate/score"}],
                "pruner": {"type": "median", "metric": "eval/mean_reward"},
            },
        }
    )
    judge = Judge(spec, spec.study.objectives[0], mailbox)
    runs = {1: [1, 2], 2: [1, 2]}
    writers = [begin(mailbox, f"t{trial:04d}-s{seed}") for trial in runs for seed in runs[trial]]
    for step in range(LOOKS):
        for writer in writers:
            one_more(writer, step)
        store.asked.clear()
        judge.look(runs)
        assert store.asked.total() <= (4 if step else 6) * len(writers)
    assert judge.reached(1) == (LOOKS - 1, LOOKS - 1)


def test_callbacks_cost_the_same_at_each_poll(mailbox, store):
    mailbox.write(f"runs/{RUN}/run.json", RunRecord(run=RUN, experiment="x", trial=1, seed=1))
    ticket = ticket_of(RUN)
    state = TicketState(ticket=ticket, status=Status.RUNNING, attempt=1)
    points: list[Point] = []
    feed = Feed(mailbox, lambda: {ticket.ticket: state}, [points.append])
    writer = begin(mailbox)
    feed.poll()
    for step in range(LOOKS):
        one_more(writer, step)
        store.asked.clear()
        assert feed.poll()
        assert store.asked.total() <= 6
    assert [p.step for p in points if p.stream == "train"] == list(range(LOOKS))


def test_callbacks_spare_a_store_with_a_pace(mailbox, store):
    store.pace_s = 1.0  # type: ignore[attr-defined]
    ticket = ticket_of(RUN)
    state = TicketState(ticket=ticket, status=Status.RUNNING, attempt=1)
    mailbox.write(f"runs/{RUN}/run.json", RunRecord(run=RUN, experiment="x", trial=1, seed=1))
    writer = begin(mailbox)
    clock, points = FakeClock(), []
    feed = Feed(
        mailbox,
        lambda: {ticket.ticket: state},
        [lambda point: points.append(point.step)],
        monotonic=clock.monotonic,
    )
    polls = 0
    for step in range(1, 101):
        if step % 2:
            one_more(writer, step)
        before = store.asked.total()
        feed.poll()
        polls += store.asked.total() > before
        clock.advance(0.25)
    assert polls == 5  # in 25 seconds
    one_more(writer, 1000)
    feed.poll(everything=True)
    assert points[-1] == 1000


def test_a_run_that_nobody_began_is_not_read(mailbox, store):
    ticket = ticket_of(RUN)
    state = TicketState(ticket=ticket, status=Status.READY)
    feed = Feed(mailbox, lambda: {ticket.ticket: state}, [lambda point: None])
    assert feed.poll()
    assert store.asked.total() == 0


# -- Lines of streams reach the store, and whoever else wants them, once ----------------------


class Failing(MemoryStore):
    """Refuses the segments of one stream."""

    refused = "/timing/"

    def put(self, key: str, data: bytes) -> None:
        if self.refused and self.refused in key:
            raise StoreUnavailable("away")
        super().put(key, data)


def test_lines_are_told_once_if_another_stream_cannot_be_written(tmp_path):
    store = Failing(f"memory://{tmp_path}")
    told: list[tuple[str, int]] = []

    def take(flushed: Mapping[str, Sequence[str]]) -> None:
        for stream, lines in flushed.items():
            told.extend((stream, json.loads(text)["step"]) for text in lines)

    writer = StreamWriter(Mailbox(store, "x"), "t0001-s1", 1, on_flushed=take)
    for step in (10, 20):
        for stream in ("train", "timing"):
            writer.append(stream, step, {})
        if step == 10:
            with pytest.raises(StoreUnavailable):
                writer.flush()
            assert told == [("train", 10)]
    store.refused = ""
    writer.flush()
    assert sorted(told) == [("timing", 10), ("timing", 20), ("train", 10), ("train", 20)]
