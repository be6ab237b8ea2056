"""Callbacks of `drillyard.run` see every trial of a study: real runs on the local backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase
from tests.helpers.searches import study_file

POINTS = 6


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


def written(folder: Path, **study: Any) -> Path:
    levels = [{"level": v} for v in (0.1, 0.2, 0.3)]
    mock = {"range": [0, 100], "points": POINTS, "duration_s": 0.5}
    chosen = {"chooser": "manual", "cycles": levels, **study}
    return study_file(folder, chosen, seeds=[1, 2], mock=mock)


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
