"""A study in MLflow, read back with MLflow's own client: study > trial > seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from drillyard.mailbox import Mailbox
from drillyard.tracking import resolve_uri
from drillyard.tracking.mlflow_mirror import MlflowMirror
from tests.contract.test_study import run

SCRIPT = {
    "workload": "script",
    "mock": None,
    "seeds": [1, 2],
    "script": {
        "run": ["test $kind = a", "echo score $level$seed"],
        "results": {"stdout": r"(\w+) ([\d.]+)"},
    },
}
CYCLES = [
    {"level": 0.5, "kind": "a"},
    {"level": 0.1, "kind": "b"},
    {"level": 0.3, "kind": "a"},
    {"level": 0.4, "kind": "a"},
    {"level": 0.2, "kind": "a"},
]


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


class Read:
    """What the database has of the study."""

    def __init__(self, box: Mailbox, uri: str) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(box.experiment)
        found = self.client.search_runs([experiment.experiment_id])
        names = Counter(r.data.tags["drillyard.name"] for r in found)
        assert set(names.values()) == {1}, names
        self.runs: dict[str, Any] = {r.data.tags["drillyard.name"]: r for r in found}

    def above(self, name: str) -> str | None:
        """Name of the run above."""
        parent = self.runs[name].data.tags.get("mlflow.parentRunId")
        ids = {r.info.run_id: n for n, r in self.runs.items()}
        return None if parent is None else ids[parent]

    def curve(self, name: str, key: str) -> list[tuple[int, float]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, key)
        return [(m.step, round(m.value, 9)) for m in history]


def test_a_study_is_a_parent_its_trials_children_its_seeds_grandchildren(tmp_path):
    study = {"chooser": "manual", "cycles": CYCLES, "trials": 3, "confirm": 1}
    box = run(tmp_path, study, **SCRIPT)
    uri = resolve_uri("auto", box.store.url, environ={})
    assert uri is not None
    assert MlflowMirror(box, uri).sync().complete
    there = Read(box, uri)
    seeds = {f"t{n:04d}-s{s}" for n in (1, 2, 3) for s in (1, 2)} | {"t0004-s3"}
    assert set(there.runs) == {"experiment", "t0001", "t0002", "t0003", "t0004"} | seeds
    assert there.above("experiment") is None
    assert {there.above(n) for n in ("t0001", "t0002", "t0003", "t0004")} == {"experiment"}
    assert all(there.above(seed) == seed.split("-")[0] for seed in seeds)
    # A trial has what was chosen for it, and is worth what it is worth over its seeds.
    first = there.runs["t0001"]
    assert (first.data.params["parameters.level"], first.data.params["chooser"]) == (
        "0.5",
        "manual",
    )
    assert there.curve("t0001", "objective/evaluate/score") == [(2, 0.515)]
    assert there.curve("t0001", "evaluate/score") == [(2, 0.515)]
    assert there.runs["t0002"].info.status == "FAILED"
    assert there.runs["t0002"].data.tags["drillyard.message"]
    assert there.runs["t0004"].data.tags["drillyard.confirms"] == "t0003"
    # One failed trial does not spoil the study, and its metrics are of the best trial.
    parent = there.runs["experiment"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["drillyard.best"] == "t0003"
    ended = there.curve("experiment", "best/evaluate/score")
    assert ended[-1] == (3, 0.315) and min(v for _, v in ended) == 0.315
    assert there.curve("experiment", "confirmed/evaluate/score") == [(3, 0.33)]
    assert "evaluate/score" not in parent.data.metrics, "a mean over good and bad trials"

    # The study goes on: new trials join, nothing that stands there is written again.
    run(tmp_path, {**study, "trials": 5}, **SCRIPT)
    assert MlflowMirror(box, uri).sync(trust=True).complete
    later = Read(box, uri)
    assert {"t0005", "t0006"} <= set(later.runs)
    for name, old in there.runs.items():
        assert later.runs[name].info.run_id == old.info.run_id
        assert later.runs[name].data.params == old.data.params, name
    assert later.runs["experiment"].data.tags["drillyard.best"] == "t0006"
    assert later.curve("experiment", "best/evaluate/score")[-1] == (5, 0.215)
    again = MlflowMirror(box, uri).sync()
    assert (again.points, again.artifacts, again.complete) == (0, 0, True)


def test_seeds_that_were_added_count_in_their_trial(tmp_path):
    study = {
        "chooser": "manual",
        "cycles": [{"level": 0.5}, {"level": 0.5001}],
        "auto": {"start": 3, "most": 4},
    }
    mock = {"range": [0, 100], "noise": 0.03}
    box = run(tmp_path, study, seeds="auto", mock=mock)
    uri = resolve_uri("auto", box.store.url, environ={})
    assert uri is not None
    assert MlflowMirror(box, uri).sync().complete
    there = Read(box, uri)
    assert [step for step, _ in there.curve("t0001", "objective/evaluate/score")] == [4]
    assert there.runs["t0001"].data.tags["drillyard.seeds"] == "1, 2, 3, 4"
    best = min(o.values["evaluate/score"] for o in box.trials()[1].values())
    assert there.curve("experiment", "best/evaluate/score")[-1][1] == pytest.approx(best)
