"""What a tracking server takes at once and of one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drillyard.tracking.points import AZURE_NAMES
from drillyard.tracking.uris import is_azure

_MACHINES = ("time/", "timing/", "telemetry/", "system/")
"""Curves of machines, not of learning: they may take a quarter of the names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one kind of server; the defaults are those of MLflow 3.

    Attributes:
        metrics_a_batch: Values of metrics in one request.
        params_a_batch: Parameters or tags in one request.
        param: Characters of a parameter's value.
        tag: Characters of a tag's value.
        metrics: Names of metrics of a run; None: any number.
        params: Parameters of a run; None: any number.
        tags: Tags of a run; None: any number.
    """

    metrics_a_batch: int = 1000
    params_a_batch: int = 100
    param: int = 6000
    tag: int = 8000
    metrics: int | None = None
    params: int | None = None
    tags: int | None = None


AZURE = Limits(metrics_a_batch=250, param=500, tag=1000, metrics=50, params=200, tags=50)
"""Azure ML: "Service limits in Azure Machine Learning" (learn.microsoft.com) for metrics and tags;
https://github.com/Azure/azure-sdk-for-python/issues/35685 for the number of parameters. The length
of a parameter is MLflow's own of earlier years, which no page of Azure's raises."""


def limits_of(uri: str) -> Limits:
    """The limits of a server, by its address.

    Args:
        uri: As MLflow takes it.
    """
    return AZURE if is_azure(uri) else Limits()


def admitted(names: Iterable[str], there: Iterable[str], most: int | None) -> set[str]:
    """Which names of metrics fit, where a run has room for so many.

    Args:
        names: Those that would be sent.
        there: Those that the run has.
        most: How many it may have; None: any number.
    """
    known, asked = set(there), set(names)
    if most is None or len(known | asked) <= most:
        return asked
    present = known & asked
    machines = sum(name.startswith(_MACHINES) for name in known)
    for name in sorted(asked - known, key=_rank):
        if len(known) >= most:
            break
        machine = name.startswith(_MACHINES)
        if machine and machines >= most // 4:
            continue
        machines += machine
        known.add(name)
        present.add(name)
    return present


def _rank(name: str) -> tuple[int, str]:
    """What people chart first comes first."""
    if name in AZURE_NAMES or name in AZURE_NAMES.values():
        return 0, name
    if name.startswith(_MACHINES):
        return 3, name
    return (1 if name.startswith(("rollout/", "evaluation/", "eval/")) else 2), name
