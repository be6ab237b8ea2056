"""Summaries are read with types, whatever a workload wrote into them."""

from __future__ import annotations

import math

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import Accepted, Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.summaries import (
    TrainSummary,
    metric_values,
    policy_scores,
    policy_used,
    problems,
)


def accepted(summary: JsonObject) -> Accepted:
    record = Accepted(
        run="t0001-s1",
        phase=Phase.TRAIN,
        attempt=1,
        status=Status.SUCCEEDED,
        manifest="m",
        manifest_sha256="0",
        summary=summary,
        started_at=0.0,
        ended_at=1.0,
    )
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
