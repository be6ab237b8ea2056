"""Records of the mailbox: damaged ones, closed attempts, summaries."""

from __future__ import annotations

import math

import pytest

from drillyard.documents.json_types import JsonObject
from drillyard.errors import CorruptObject, Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Accepted, Claim, Ending, Phase, WorkerRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.summaries import (
    TrainSummary,
    metric_values,
    policy_scores,
    policy_used,
    problems,
)
from tests.helpers import records

# -- Records that cannot be read: the error has their address, and a worker's stops nothing ---


CUT = b'{"worker": '


@pytest.fixture
def mailbox():
    return Mailbox(MemoryStore("memory://damaged"), "e")


def test_a_damaged_record_of_a_worker_hides_no_other(mailbox, caplog):
    """It was of a dead one: one that lives writes its record again within seconds."""
    mailbox.store.put("e/workers/dead.json", CUT)
    alive = WorkerRecord(worker="w1", lease="dy-0123456789", state="ready", written_at=0.0)
    mailbox.write("workers/w1.json", alive)
    assert mailbox.workers() == [alive]
    assert mailbox.workers() == [alive]
    said = [record.getMessage() for record in caplog.records if "dead.json" in record.getMessage()]
    assert len(said) <= 1 and all("is ignored" in text for text in said)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("driver/1.json", lambda m: m.drivers()),
        ("queue/t0001-s1.train.json", lambda m: m.tickets()),
        ("runs/t0001-s1/run.json", lambda m: list(m.runs())),
        ("trials/t0001.json", lambda m: m.trials()),
        ("experiment.json", lambda m: m.experiment_record()),
    ],
)
def test_the_error_has_the_address_of_what_is_damaged(mailbox, path, read):
    mailbox.store.put(f"e/{path}", CUT)
    with pytest.raises(CorruptObject, match=f"^memory://damaged/e/{path}: ") as error:
        read(mailbox)
    assert error.value.hint is not None


# -- An attempt that was closed as lost hands nothing in, though its claim is still there -----


CLAIM = Claim(ticket="t0001-s1.train", attempt=1, worker="w1", token="a", claimed_at=0.0)
RESULT = records.accepted(
    manifest="runs/t0001-s1/attempts/train-1/manifest.json", manifest_sha256="0" * 64, ended_at=1.0
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


# -- Summaries are read with types, whatever a workload wrote into them -----------------------


def accepted(summary: JsonObject) -> Accepted:
    record = records.accepted(summary=summary, ended_at=1.0)
    return Accepted.from_bytes(record.to_bytes())


def test_a_training_reads_back():
    summary = TrainSummary.of(accepted({"steps": 20, "wall_s": 1.5, "parameters": {"a": 1}}))
    assert (summary.steps, summary.wall_s, summary.parameters) == (20, 1.5, {"a": 1})
    assert summary.episodes is None and summary.best is None


def test_what_is_missing_or_of_another_type_is_none():
    resumed = TrainSummary.of(accepted({"steps": 20, "wall_s": 1.5, "elapsed_s": 9.0}))
    assert resumed.wall_s == 9.0  # of all attempts
    strange = TrainSummary.of(accepted({"steps": "many", "wall_s": True, "best": [1]}))
    assert strange == TrainSummary() == TrainSummary.of(None)


def test_an_evaluation_reads_back():
    record = accepted(
        {
            "policies": {"agent": {"mean_return": 1.0}, "broken": 3},
            "metrics": {"score": math.nan},
            "policy_used": "best",
            "problems": ["one"],
        }
    )
    assert policy_scores(record) == {"agent": {"mean_return": 1.0}}
    assert policy_used(record) == "best"
    assert problems(record) == ["one"]
    assert list(metric_values(record)) == ["score"]
    assert policy_scores(None) == {} and policy_used(None) is None
