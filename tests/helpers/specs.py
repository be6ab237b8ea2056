"""A small experiment, of which a test states only what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.records import experiment_record

SMALL: dict[str, Any] = {
    "schema": 1,
    "name": "x",
    "simulator": {"id": "cstr"},
    "learner": {"algorithm": "ppo", "preset": None},
    "train": {"steps": 64},
    "evaluate": {"episodes": 2},
    "seeds": [1],
    "tracking": {"mlflow": None, "tensorboard": False},
}


def small(simulator: str | dict[str, Any] | None = None, **parts: Any) -> ExperimentSpec:
    """``SMALL`` with what a test changes in its sections.

    Args:
        simulator: Its id, or the section; by default the reactor.
        **parts: Sections of the file: keys are added to those of ``SMALL``, or replace them.
    """
    given = {"id": simulator} if isinstance(simulator, str) else simulator or {}
    changed = {
        name: {**SMALL.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in {"simulator": given, **parts}.items()
    }
    return ExperimentSpec.model_validate({**SMALL, **changed})


def submitted(folder: Path, spec: ExperimentSpec) -> OneRun:
    """One run of an experiment that has its record in the store, as the driver writes it."""
    run = OneRun(folder, spec, RlWorkload())
    record = experiment_record(spec.name, spec=spec.model_dump(mode="json", by_alias=True))
    run.mailbox.create("experiment.json", record)
    return run
