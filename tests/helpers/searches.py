"""A search of the mock workload, of which a test says only what is special about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import TrialRecord
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.submit import Trial, post_trials
from drillyard.spec.load import load
from drillyard.spec.tunables import Group, Space
from drillyard.studies.choosers import Choice
from drillyard.studies.search import Search

LOWEST = {"metric": "evaluate/score", "direction": "min"}
LEVEL = {"level": {"type": "float", "range": [0, 1], "default": 0.5}}


def space_of(groups: Mapping[str, Any], *active: str) -> Space:
    """Returns the space of groups of tunables as a file has them."""
    return Space({name: Group.model_validate(groups[name]) for name in active or groups})


def study_file(
    folder: Path, study: Mapping[str, Any], params: Mapping[str, Any] = LEVEL, **more: Any
) -> Path:
    """Writes an experiment ``s`` that searches for the lowest score.

    Args:
        folder: Where.
        study: Of its section.
        params: What is searched for.
        **more: Other sections; None leaves one out.
    """
    content = {
        "schema": 1,
        "name": "s",
        "workload": "mock",
        "mock": {"range": [0, 100]},
        "parameters": {"tunables": {"g": {"params": params}}, "tunable_params": ["g"]},
        "tracking": {"mlflow": None},
        "study": {"objectives": [LOWEST], **study},
        **more,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "s.json"
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )
    return path


def frozen(number: int, choice: Choice, at: float = 0.0) -> TrialRecord:
    """The record of a trial that was just chosen."""
    names = ("assignment", "chooser", "parts", "label", "memory", "lineage")
    given = {name: getattr(choice, name) for name in names}
    return TrialRecord(number=number, seeds=[1], chosen_at=at, **given)


def begun(mailbox: Mailbox, file: Path, must_drive: Callable[[], None] = lambda: None) -> Search:
    """A study that has chosen its first trials; its loop is turned by hand."""
    spec = load(file).spec

    def post(trial: Trial) -> None:
        post_trials(spec, mailbox, [trial], must_drive, first=trial.number)

    made = Search(
        spec,
        mailbox,
        states=lambda: ticket_states(mailbox),
        stopped=lambda: False,
        post=post,
        spent=lambda: 0.0,
        say=lambda _: None,
        must_drive=must_drive,
    )
    made._loop.start = lambda: None  # type: ignore[method-assign]
    made.load()
    made.begin()
    return made
