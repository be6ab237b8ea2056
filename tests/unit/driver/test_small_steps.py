"""Steps of the driver's parts, each alone: heartbeat, order to stop, teardown, stages' data."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver import stage_data
from drillyard.driver.heartbeat import BEAT_S, Heartbeat
from drillyard.driver.stage_data import StageData
from drillyard.driver.stop_order import StopOrder
from drillyard.driver.teardown import Teardown
from drillyard.errors import (
    NotFound,
    RunFailed,
    Stopped,
    StoreUnavailable,
    Superseded,
    TeardownUnconfirmed,
)
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.stage_records import Inputs, Serving, inputs_key, serving_key
from drillyard.spec import ExperimentSpec
from tests.helpers.records import claim_of, result_of

RUN = "t0001-s1"


# -- The heartbeat ---------------------------------------------------------------------------


class Lock:
    """A driver's lock that answers as it is told."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = [*answers]

    def beat(self) -> None:
        if (answer := self.answers.pop(0)) is not None:
            raise answer


def heartbeat(*answers: Exception | None, pace_s: float = 0.0) -> tuple[Heartbeat, list[Any]]:
    superseded: list[Any] = []
    lock: Any = Lock(*answers)
    return Heartbeat(lock, superseded.append, pace_s), superseded


def test_a_heartbeat_comes_every_few_seconds_and_rarer_for_a_store_with_a_pace():
    assert heartbeat(None)[0].step(0.0) == BEAT_S
    assert heartbeat(None, pace_s=1.0)[0].step(0.0) == BEAT_S
    assert heartbeat(None, pace_s=4.0)[0].step(0.0) == 8.0


def test_a_driver_that_was_superseded_beats_no_more_and_says_so():
    error = Superseded("driver 2 took over")
    beats, told = heartbeat(error)
    assert beats.step(0.0) is None
    assert told == [error]


def test_a_mailbox_that_cannot_be_written_is_said_once_and_when_it_is_over(caplog):
    away = StoreUnavailable("the disk is full", hint="make room")
    beats, told = heartbeat(away, away, None, None, away)
    with caplog.at_level(logging.WARNING, "drillyard"):
        assert [beats.step(float(n)) for n in range(5)] == [BEAT_S] * 5
    assert told == []
    first = "the mailbox cannot be written, so the work waits: the disk is full (make room)"
    assert [r.getMessage() for r in caplog.records] == [
        first,
        "the mailbox can be written again",
        first,
    ]


# -- The order to stop -----------------------------------------------------------------------


def stop_order(mailbox: Mailbox, now: list[float], superseded: bool = False) -> StopOrder:
    def must_drive() -> None:
        if superseded:
            raise Superseded("driver 2 took over")

    lock: Any = SimpleNamespace(must_drive=must_drive)
    clock: Any = SimpleNamespace(monotonic=lambda: now[0], now=lambda: 1000.0 + now[0])
    return StopOrder(mailbox, lock, clock)


def test_an_order_to_stop_is_written_for_all_and_its_first_time_counts(mailbox):
    now = [5.0]
    order = stop_order(mailbox, now)
    order.check()
    assert not order.given and not order.seen()
    order.give("enough", drain=True)
    now[0] = 7.0
    order.give("enough", drain=True)
    assert (order.given_at, order.drains) == (5.0, True)
    written = mailbox.cancelled()
    assert written is not None
    assert (written.reason, written.drain, written.written_at) == ("enough", True, 1007.0)
    order.give("now")
    assert (order.given_at, order.drains) == (7.0, False), "running work ends, too, from now on"
    now[0] = 9.0
    order.give("later", drain=True)
    assert (order.given_at, order.drains) == (7.0, False), "and it stays so"
    with pytest.raises(Stopped):
        order.check()


def test_the_order_of_another_command_counts_and_is_not_this_drivers(mailbox):
    stop_order(mailbox, [0.0]).give("enough")
    other = stop_order(mailbox, [0.0])
    assert other.seen() and not other.given
    with pytest.raises(Stopped):
        other.check()


def test_a_driver_that_was_superseded_stops_nobody_else(mailbox):
    with pytest.raises(Superseded):
        stop_order(mailbox, [0.0], superseded=True).give("enough")
    assert mailbox.cancelled() is None


# -- The teardown ----------------------------------------------------------------------------


class Supervisor:
    """What a teardown asks of the supervisor of leases."""

    def __init__(self) -> None:
        self.ending = threading.Lock()
        self.set_up, self.torn_down = True, False


def teardown(supervisor: Supervisor, *answers: Any) -> tuple[Teardown, list[str]]:
    said: list[str] = []
    given, wanted = iter(answers), SimpleNamespace()
    made = Teardown(wanted, supervisor, lambda: None, said.append)  # type: ignore[arg-type]

    def step(now: float) -> float | None:
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    made._ending = SimpleNamespace(step=step)  # type: ignore[assignment]
    return made, said


def test_of_two_teardowns_one_works_and_the_other_waits_for_it():
    supervisor = Supervisor()
    first, _ = teardown(supervisor, 2.0, None)
    second, _ = teardown(supervisor, None)
    assert first.step(0.0) == 2.0
    assert (supervisor.set_up, supervisor.torn_down) == (False, True), "nothing is replaced now"
    waits_s = second.step(0.0)
    assert waits_s is not None and 0 < waits_s < 1.0
    assert first.step(2.0) is None
    assert not supervisor.ending.locked()
    assert second.step(2.0) is None


def test_a_teardown_that_is_abandoned_can_be_continued_by_another():
    supervisor = Supervisor()
    first, _ = teardown(supervisor, 2.0, 2.0)
    first.abandon()
    first.step(0.0)
    first.abandon()
    assert not supervisor.ending.locked()
    second, _ = teardown(supervisor, 1.0)
    assert second.step(0.0) == 1.0
    first.abandon()
    assert supervisor.ending.locked(), "it is the other one's"


def test_a_teardown_of_machines_that_another_driver_uses_says_so_and_ends():
    supervisor = Supervisor()
    made, said = teardown(supervisor, Superseded("driver 2 took over"))
    assert made.step(0.0) is None
    assert said == ["the teardown stops: driver 2 took over"]
    assert not supervisor.ending.locked()


def test_an_unconfirmed_teardown_raises_and_blocks_no_other():
    supervisor = Supervisor()
    made, said = teardown(supervisor, TeardownUnconfirmed("dy-1 is listed"))
    with pytest.raises(TeardownUnconfirmed):
        made.step(0.0)
    assert said == [] and not supervisor.ending.locked()


# -- What stages hand on ---------------------------------------------------------------------


@pytest.fixture
def mailboxes(request) -> dict[str, Mailbox]:
    store = open_store(f"memory://{request.node.nodeid}")
    return {name: Mailbox(store, f"toy.{name}") for name in ("first", "last", "served")}


def data(mailboxes: dict[str, Mailbox], outputs: dict[str, Any], given: Any) -> StageData:
    spec = ExperimentSpec.model_validate(
        {
            "name": "toy",
            "workload": "composite",
            "seeds": [1, 2],
            "children": [
                {
                    "name": "first",
                    "workload": "script",
                    "script": {"run": ["true"], "keep": ["out"]},
                    "outputs": outputs,
                },
                {
                    "name": "last",
                    "workload": "script",
                    "script": {"run": ["true"]},
                    "inputs": {"start": given},
                },
            ],
        }
    )
    return StageData(spec, mailboxes)


def done(mailbox: Mailbox, seed: int, files: dict[str, bytes], **summary: Any) -> None:
    run = f"t0001-s{seed}"
    for phase in (Phase.TRAIN, Phase.EVALUATE):
        claim = claim_of(f"{run}.{phase.value}")
        mailbox.claim(claim)
        more = {"summary": summary} if phase is Phase.EVALUATE else {}
        kept = files if phase is Phase.TRAIN else {}
        assert mailbox.accept(claim, result_of(mailbox, run, phase, kept, **more))


def inputs(mailboxes: dict[str, Mailbox], seed: int = 1) -> Any:
    record = mailboxes["last"].read(inputs_key(f"t0001-s{seed}"), Inputs)
    assert record is not None
    return record.inputs["start"]


def test_a_metric_is_handed_on_by_seed(mailboxes):
    made = data(mailboxes, {"score": {"metric": "score"}}, "first.score")
    for seed in (1, 2):
        done(mailboxes["first"], seed, {}, metrics={"score": seed / 2, "other": 9, "text": "x"})
    made.write("last", [1, 2], {})
    assert (inputs(mailboxes, 1).value, inputs(mailboxes, 2).value) == (0.5, 1.0)
    made.write("first", [1], {})
    assert mailboxes["first"].read(inputs_key(RUN), Inputs) is None, "it has no inputs"


def test_a_metric_that_a_stage_does_not_have_is_named_with_those_that_it_has(mailboxes):
    made = data(mailboxes, {"score": {"metric": "score"}}, "first.score")
    with pytest.raises(NotFound, match="no accepted evaluation"):
        made.write("last", [1], {})
    done(mailboxes["first"], 1, {}, metrics={"other": 9, "text": "x"})
    with pytest.raises(RunFailed, match="no metric 'score'") as refused:
        made.write("last", [1], {})
    assert refused.value.hint == "its metrics: other"


def test_a_file_and_a_folder_are_copied_with_their_names(mailboxes, monkeypatch):
    made = data(mailboxes, {"all": "out"}, "first.all")
    kept = {"files/out/a.txt": b"A", "files/out/deep/b.txt": b"B", "files/outer.txt": b"C"}
    done(mailboxes["first"], 1, kept)
    made.write("last", [1], {})
    start = inputs(mailboxes)
    assert start.value == "inputs/start/out"
    assert sorted(start.files) == ["inputs/start/out/a.txt", "inputs/start/out/deep/b.txt"]
    entry = start.files["inputs/start/out/a.txt"]
    assert mailboxes["last"].read_entry(entry) == b"A"
    key = mailboxes["last"].key(entry.key)
    mailboxes["last"].store.delete(key)
    monkeypatch.setattr(stage_data, "IN_MEMORY", 0)  # as a large file
    made.write("last", [1], {})
    assert mailboxes["last"].store.get(key) == b"A"


def test_a_file_that_a_stage_did_not_keep_is_named_with_those_that_it_kept(mailboxes):
    made = data(mailboxes, {"all": "out"}, "first.all")
    done(mailboxes["first"], 1, {"files/outer.txt": b"C"})
    with pytest.raises(RunFailed, match="kept no file 'out'") as refused:
        made.write("last", [1], {})
    assert refused.value.hint is not None and "its files: outer.txt;" in refused.value.hint


def test_outputs_of_all_seeds_are_one_table_or_a_folder_for_each(mailboxes):
    given = {"from": "first.score", "seeds": "all"}
    for seed in (1, 2):
        done(mailboxes["first"], seed, {"files/out": b"%d" % seed}, metrics={"score": seed})
    data(mailboxes, {"score": {"metric": "score"}}, given).write("last", [1], {})
    table = inputs(mailboxes)
    assert table.value == "inputs/start.json"
    assert b'"s1": 1' in mailboxes["last"].read_entry(table.files[table.value])
    given = {"from": "first.all", "seeds": "all"}
    data(mailboxes, {"all": "out"}, given).write("last", [2], {})
    start = inputs(mailboxes, 2)
    assert start.value == "inputs/start"
    assert sorted(start.files) == ["inputs/start/s1/out", "inputs/start/s2/out"]


def test_the_address_of_a_service_is_read_once_it_is_ready(mailboxes):
    made = data(mailboxes, {"score": {"metric": "score"}}, "first.score")
    assert made.address("served", RUN) is None
    ready = Serving(attempt=1, host="::1", port=80, ready_at=0.0)
    mailboxes["served"].write(serving_key(RUN), ready)
    assert made.address("served", RUN) == ready
    assert stage_data._of_service(ready, "url") == "http://[::1]:80"
    assert (
        stage_data._of_service(Serving(attempt=1, host="h", port=8, ready_at=0.0), "address")
        == "h:8"
    )
