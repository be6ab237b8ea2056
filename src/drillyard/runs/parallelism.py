"""How many runs an experiment has, and how many of them are done side by side."""

from __future__ import annotations

from drillyard.backend import is_paid
from drillyard.spec import ExperimentSpec

HERE = 2
"""On machines that are there anyway, and for trials that a chooser draws or learns."""


def runs(spec: ExperimentSpec) -> int | None:
    """The runs that a person has listed: seeds, listed experiments, cycles.

    Args:
        spec: The experiment.

    Returns:
        How many; None where a chooser decides what is run.
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


def workers(spec: ExperimentSpec) -> int:
    """Workers of an experiment: what it asks for, else by where it runs.

    Ten rented machines for an hour cost what one costs for ten hours, so that each run that a
    person has listed gets one of its own.

    Args:
        spec: The experiment.
    """
    if spec.resources.workers is not None:
        return spec.resources.workers
    listed = runs(spec)
    return listed if listed is not None and is_paid(spec.backend) else HERE
