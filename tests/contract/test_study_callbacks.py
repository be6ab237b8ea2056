"""Callbacks of `drillyard.run` see every trial of a study: real runs on the local backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase

POINTS = 6


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


def written(folder: Path, **study: Any) -> Path:
    spec = {
        "schema": 1,
        "name": "s",
        "workload": "mock",
        "seeds": [1, 2],
        "mock": {"range": [0, 100], "points": POINTS, "duration_s": 0.5},
        "parameters": {
            "tunables": {
                "g": {
                    "params": {
                        "level": {"type": "float", "range": [0, 1], "default": 0.5},
                    }
                }
            },
            "tunable_params": ["g"],
        },
        "tracking": {"mlflow": None},
        "study": {
            "objectives": [{"metric": "evaluate/score", "direction": "min"}],
            "chooser": "manual",
            "cycles": [{"level": v} for v in (0.1, 0.2, 0.3)],
            **study,
        },
    }
    path = folder / "s.json"
    path.write_text(json.dumps(spec))
    return path


def test_every_point_of_every_trial_once_and_while_it_runs(tmp_path):
    mailbox = Mailbox(open_store(str(tmp_path / "runs")), "s")
    points: list[drillyard.Point] = []
    early: set[str] = set()

    def watch(point: drillyard.Point) -> None:
        points.append(point)
        if mailbox.accepted(point.run, Phase.TRAIN) is None:
            early.add(point.run)

    def run() -> None:
        drillyard.run(
            written(tmp_path, confirm=2),
            store=tmp_path / "runs",
            callbacks=watch,
            flow=False,
            report=False,
        )

    run()
    runs = {record.run: record.seed for record in mailbox.runs()}
    # Three trials of two seeds, and the winner once more on fresh seeds.
    searched = {run_id(trial, seed) for trial in (1, 2, 3) for seed in (1, 2)}
    assert searched < set(runs) and len(runs) == 8
    for name, seed in runs.items():
        mine = [point for point in points if point.run == name]
        assert [point.step for point in mine] == list(range(1, POINTS + 1)), name
        assert {point.seed for point in mine} == {seed}
    assert early - {run_id(1, 1), run_id(1, 2)}, "of later trials nothing came while they ran"
    # The same call again has nothing to do, and tells everything once more.
    before = len(points)
    run()
    assert sorted(map(repr, points[before:])) == sorted(map(repr, points[:before]))


def test_a_callback_stops_a_study_at_its_second_trial(tmp_path):
    def watch(point: drillyard.Point) -> bool:
        return not point.run.startswith("t0002")

    levels = [{"level": n / 50} for n in range(50)]
    results = drillyard.run(
        written(tmp_path, cycles=levels, confirm=0),
        store=tmp_path / "runs",
        flow=False,
        callbacks=watch,
        report=False,
    )
    assert results.status == "CANCELLED"
    mailbox = Mailbox(open_store(str(tmp_path / "runs")), "s")
    assert mailbox.accepted(run_id(50, 1), Phase.TRAIN) is None
