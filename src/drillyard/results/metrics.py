"""The table of metrics: what scripts, mocks and composites measured, over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drillyard.results.model import MetricScore
from drillyard.results.policies import over_seeds


def of_summary(summary: Mapping[str, Any] | None) -> dict[str, float]:
    """The metrics in the summary of an evaluation; none for a plain ``rl`` run."""
    found = (summary or {}).get("metrics")
    if not isinstance(found, Mapping):
        return {}
    return {str(k): float(v) for k, v in found.items() if isinstance(v, int | float)}


def metric_scores(measured: Iterable[tuple[int, int, Mapping[str, float]]]) -> tuple[
    MetricScore, ...
]:  # fmt: skip
    """One line a trial and metric: mean and interval over seeds.

    Args:
        measured: (trial, seed, its metrics) of each run that was evaluated.
    """
    found: dict[tuple[int, str], dict[int, float]] = {}
    for trial, seed, metrics in measured:
        for name, value in metrics.items():
            found.setdefault((trial, name), {})[seed] = value
    return tuple(
        MetricScore(name, sum(v.values()) / len(v), over_seeds(list(v.values())), v, trial)
        for (trial, name), v in found.items()
    )
