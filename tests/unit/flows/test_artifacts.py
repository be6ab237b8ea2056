"""Links of Prefect's pages: to MLflow's server where there is one, else the path."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.results.model import MetricScore
from drillyard.tracking.sync_state import PARENT, Notes, RunNote
from drillyard_flows import artifacts

REPORT = "/runs/e/report/index.html"


def driver(uri: str | None) -> Any:
    tracking = SimpleNamespace(mlflow=uri)
    return SimpleNamespace(
        mailbox=Mailbox(MemoryStore(), "e"),
        loaded=SimpleNamespace(spec=SimpleNamespace(tracking=tracking)),
    )


def test_the_report_is_at_the_tracking_server_once_it_knows_the_experiment():
    found = driver("http://127.0.0.1:5000")
    assert artifacts.address(found, REPORT) == REPORT
    page = "http://127.0.0.1:5000/#/experiments/3/runs/abc"
    note = RunNote(run=PARENT, run_id="abc", link=page)
    Notes(found.mailbox, "http://127.0.0.1:5000").write(note)
    assert artifacts.address(found, REPORT) == f"{page}/artifacts/report/index.html"


def test_a_metric_without_an_interval_shows_the_range_of_its_seeds():
    results: Any = SimpleNamespace(
        policies=(), metrics=[MetricScore("score", 2.0, None, {1: 1.5, 2: 2.5})]
    )
    (row,) = artifacts.rows(results)
    assert row == {
        "metric": "score",
        "mean": 2.0,
        "95 % from": None,
        "95 % to": None,
        "over": "range of 2 seeds: 1.500 to 2.500",
    }


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow.db"])
def test_without_a_server_it_is_a_path(uri):
    assert artifacts.address(driver(uri), REPORT) == REPORT
