"""How many runs an experiment has, and how many of them run at the same time."""

from __future__ import annotations

from drillyard.backend import is_paid
from drillyard.spec import ExperimentSpec

HERE = 2
"""Workers on machines that cost nothing, and for trials that a chooser selects."""


def runs(spec: ExperimentSpec) -> int | None:
    """The number of runs that the file lists: seeds, experiments, cycles.

    Args:
        spec: The experiment.

    Returns:
        The number; None if a chooser decides what to run.
    """
    study, seeds = spec.study, len(spec.seeds)
    if study is None:
        return seeds
    if study.chooser == "manual":
        return seeds * (study.trials or len(study.cycles))
    if study.only:
        return seeds * len(study.only)
    if study.chooser == "list":
        return sum(len(i.get("seeds") or spec.seeds) for i in study.experiments[: study.trials])
    return None


def hosts(spec: ExperimentSpec) -> int:
    """The number of workers that host copies of the simulator for the training on another one.

    Args:
        spec: The experiment.
    """
    simulator = spec.simulator
    if simulator is None or simulator.copies_on != "workers":
        return 0
    return (spec.resources.workers or 1) - 1


def workers(spec: ExperimentSpec) -> int:
    """The number of runs at once: what the experiment asks for, else a default for its backend.

    Ten rented machines for one hour cost as much as one machine for ten hours, so each listed run
    gets a machine of its own.

    Args:
        spec: The experiment.
    """
    if spec.simulator is not None and spec.simulator.copies_on != "learner":
        return 1  # all hosts belong to one training at a time
    if spec.resources.workers is not None:
        return spec.resources.workers
    listed = runs(spec)
    return processes(listed, spec) if listed is not None and is_paid(*spec.places) else HERE


def together(spec: ExperimentSpec) -> int:
    """Trainings of one process: see ``resources.runs_per_process``."""
    return spec.resources.runs_per_process or 1


def processes(runs: int, spec: ExperimentSpec) -> int:
    """How many processes train a number of runs."""
    return -(-runs // together(spec))
