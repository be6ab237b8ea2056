"""SMAC as a chooser: keeps to the rules, repeats itself after a resume, finds what is better."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from drillyard.errors import ConfigError
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.constraints import parse
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies import factory, optuna_space
from drillyard.studies.optuna_chooser import STARTUP
from tests.helpers import rules
from tests.helpers.searches import frozen, space_of
from tests.unit.studies.test_studies import SPACE, study

if TYPE_CHECKING:
    from drillyard.studies.smac_chooser import SmacChooser

pytestmark = pytest.mark.skipif(find_spec("smac") is None, reason="extra `smac`")

GROUPS = ["shape", "server"]
MIN = ObjectiveSpec(metric="evaluate/score", direction="min")


def chooser() -> SmacChooser:
    from drillyard.studies.smac_chooser import SmacChooser  # its import takes half a second

    rules = [parse("batch <= 128 or kind != 'l'")]
    return SmacChooser(space_of(SPACE, *GROUPS), rules, MIN, seed=3, defaults_first=True)


def searched(trials: int) -> tuple[list[TrialRecord], dict[int, TrialOutcome]]:
    asked, records, outcomes = chooser(), list[TrialRecord](), dict[int, TrialOutcome]()
    for number in range(1, trials + 1):
        choice = asked.ask(number, [r.assignment for r in records])
        record = frozen(number, choice)
        value = (record.assignment["level"] - 0.3) ** 2 + (record.assignment["kind"] != "s")
        records.append(record)
        outcomes[number] = TrialOutcome(
            number=number, status=Status.SUCCEEDED, values={MIN.name: value}
        )
        asked.tell(record, outcomes[number])
    return records, outcomes


@pytest.mark.heavy
def test_it_searches_keeps_to_the_rules_and_repeats_itself_after_a_resume():
    records, outcomes = searched(STARTUP + 3)
    assert [r.chooser for r in records] == ["defaults", *["random"] * 9, *["smac"] * 3]
    assert all(r.assignment["batch"] <= 128 or r.assignment["kind"] != "l" for r in records)
    assert len({str(r.assignment) for r in records}) == len(records)
    again = chooser()
    again.reconcile(records[:-1], {n: o for n, o in outcomes.items() if n < len(records)})
    choice = again.ask(len(records), [r.assignment for r in records[:-1]])
    assert choice is not None and choice.assignment == records[-1].assignment
    late = [outcomes[r.number].values[MIN.name] for r in records[STARTUP:]]
    early = [outcomes[r.number].values[MIN.name] for r in records[:STARTUP]]
    assert sum(late) / len(late) < sum(early) / len(early)


@pytest.mark.heavy
def test_another_process_makes_the_same_choices():
    """Python's order of sets of texts differs from process to process."""
    program = (
        f"from {__name__} import STARTUP, searched\n"
        "print([r.assignment for r in searched(STARTUP + 1)[0]])"
    )
    choices = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": rules.path(*sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(choices) == 1


def test_an_assignment_goes_there_and_back():
    space = space_of(SPACE, *GROUPS)
    known = optuna_space.configurations(space)
    for changes in ({}, {"cache": 7, "kind": "s"}, {"cache": -1, "ratio": 1.0, "batch": 256}):
        assignment: dict[str, Any] = space.assign(changes)
        there = optuna_space.configured(space, known, assignment)
        assert optuna_space.suggest(space, optuna_space.Given(dict(there))) == assignment


def test_without_it_the_study_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(factory, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        factory.checked(study(tmp_path, chooser="smac").spec)
    assert "drillyard[smac]" in str(caught.value.hint)
