"""The study section of a report: what it shows, and that its comparisons are right."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.report import build
from drillyard.report.comparing import compare
from drillyard.report.study import importances, section
from drillyard.results import words
from drillyard.results.trials import collect_trials
from tests.study_store import METRIC, write_bench, write_search


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Mailbox:
    return write_search(tmp_path_factory.mktemp("search"), 12)


def test_the_page_of_a_search(search: Mailbox) -> None:
    made = build(search)
    assert made.local is not None
    text = made.local.read_text()
    study = collect_trials(search)
    best, again = study.best, study.confirmed
    assert best is not None
    assert again is not None
    for value in (best, again):
        assert words.number(value.values[METRIC]) in text
    for title in ("Optimisation history", "Parameter importances", "Slices",
                  "Parallel coordinates", "Interquartile mean", "Performance profile",
                  "Probability of improvement"):  # fmt: skip
        assert f"<h3>{title}</h3>" in text
    assert "mathdefault" not in text
    rows = list(csv.DictReader((made.local.parent / "study_history.csv").open()))
    assert len(rows) == 13
    assert float(rows[0][METRIC]) == study.trials[0].values[METRIC]


def test_importance_finds_the_parameter_that_matters(search: Mailbox) -> None:
    found = importances(collect_trials(search), [])
    assert next(iter(found)) == "level"
    assert sum(found.values()) == pytest.approx(1.0)


def test_algorithms_over_simulators_on_one_scale(tmp_path: Path) -> None:
    mailbox = write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)})
    found = compare(mailbox, collect_trials(mailbox))
    assert found is not None
    assert found.names == ("ppo", "a2c")
    assert found.tasks == ("CartPole-v1", "Pendulum-v1")
    assert found.scaled
    assert 0.5 < found.estimates["ppo"]["iqm"].value <= 1
    assert found.estimates["a2c"]["iqm"].value < found.estimates["ppo"]["iqm"].low
    x, y, better = found.better[0]
    assert (x, y, better.value) == ("ppo", "a2c", 1.0)
    table = section(mailbox, collect_trials(mailbox)).better
    assert table is not None
    assert table.rows[0][-1] == "better"


def test_two_runs_prove_nothing(tmp_path: Path) -> None:
    mailbox = write_search(tmp_path, 6, seeds=(1, 2))
    table = section(mailbox, collect_trials(mailbox)).better
    assert table is not None
    assert {row[-1] for row in table.rows} == {"too few runs to tell"}


def test_a_study_that_has_only_begun(tmp_path: Path) -> None:
    mailbox = write_search(tmp_path, 1)
    fresh = Mailbox(FileStore(str(tmp_path / "fresh")), "search")
    record = mailbox.experiment_record()
    fresh.create("experiment.json", record)
    found = section(fresh, collect_trials(fresh))
    assert found.drawn == ()
    assert "none has succeeded yet" in found.verdict
    assert build(fresh).local is not None
