"""A plug-in's chooser: named in a file, checked with it, and asked for every trial."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.mailbox import open_store
from drillyard.plugins import (
    Choice,
    Chooser,
    ConfigError,
    ExperimentSpec,
    Mailbox,
    Memoryless,
    checked_study,
    register,
)
from drillyard.registry import names
from drillyard.spec.load import load
from drillyard.spec.schema import document
from tests.helpers.refusals import refusals
from tests.helpers.searches import study_file


class EvenSteps(Memoryless):
    """Goes up evenly; ends after the last trial."""

    def __init__(self, trials: int) -> None:
        self.total = trials

    def ask(self, index: int, taken: Iterable[dict[str, Any]]) -> Choice | None:
        del taken
        if self.total is not None and index > self.total:
            return None
        return Choice({"level": index / 10}, "even-steps")


class EvenStepsKind:
    """Refuses more trials than it has steps for."""

    def check(self, spec: ExperimentSpec) -> None:
        checked_study(spec)
        assert spec.study is not None
        if (spec.study.trials or 0) > 10:
            raise ConfigError(
                "has ten steps only",
                field="study.trials",
                value=spec.study.trials,
                allowed="1 to 10",
                hint="ask for fewer",
            )

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        del mailbox
        assert spec.study is not None and spec.study.trials is not None
        return EvenSteps(spec.study.trials)


if "even-steps" not in names("choosers"):
    register("choosers", "even-steps", "tests.unit.studies.test_plugin_choosers:EvenStepsKind")


def experiment(folder: Path, **study: Any) -> Path:
    return study_file(folder, {"confirm": 0, **study}, seeds=[1])


@pytest.mark.heavy
def test_a_study_asks_the_plugin_for_each_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    path = experiment(tmp_path, chooser="even-steps", trials=3)
    drillyard.run(path, store=tmp_path / "runs", flow=False, report=False)
    records, outcomes, _ = Mailbox(open_store(str(tmp_path / "runs")), "s").trials()
    assert [(r.assignment, r.chooser) for r in records] == [
        ({"level": n / 10}, "even-steps") for n in (1, 2, 3)
    ]
    assert set(outcomes) == {1, 2, 3}


def test_its_own_check_refuses_before_anything_is_made(tmp_path):
    (error,) = refusals(load, experiment(tmp_path, chooser="even-steps", trials=11))
    assert error.field == "study.trials" and error.hint == "ask for fewer"


@pytest.mark.parametrize(
    "name", ["even-step", "tests.unit.studies.test_plugin_choosers:EvenStepsKind"]
)
def test_a_chooser_that_is_not_registered_is_refused_with_the_nearest(tmp_path, name):
    (error,) = refusals(load, experiment(tmp_path, chooser=name, trials=3))
    assert error.field == "study.chooser" and "even-steps" in str(error.allowed)
    assert "tpe" in str(error.allowed)


def test_an_unknown_chooser_is_told_together_with_other_faults(tmp_path):
    path = experiment(tmp_path, chooser="tpee", trials="many")
    assert {error.field for error in refusals(load, path)} == {"study.chooser", "study.trials"}


def test_the_schema_offers_it_after_our_own():
    from drillyard.spec.study import CHOOSERS

    offered = document()["$defs"]["StudySpec"]["properties"]["chooser"]["enum"]
    assert offered[: len(CHOOSERS)] == list(CHOOSERS) and "even-steps" in offered
    assert set(CHOOSERS) <= set(names("choosers"))
