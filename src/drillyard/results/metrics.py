"""The table of metrics: what scripts, mocks and composites measured, over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from drillyard.results.model import MetricScore, Role
from drillyard.results.policies import over_trial


def metric_scores(
    measured: Iterable[tuple[int, int, Mapping[str, float]]],
    roles: Mapping[int, Role] | None = None,
) -> tuple[MetricScore, ...]:
    """One line a trial and metric: mean and interval over seeds.

    Args:
        measured: (trial, seed, its metrics) of each run that was evaluated.
        roles: Trial -> what it is to its study; default: there is no study.
    """
    roles = roles or {}
    values: dict[tuple[int, str], dict[int, float]] = {}
    for trial, seed, metrics in measured:
        for name, value in metrics.items():
            values.setdefault((trial, name), {})[seed] = value
    ranked = Counter(name for trial, name in values if roles.get(trial) != "confirms")
    return tuple(
        MetricScore(
            name,
            sum(v.values()) / len(v),
            over_trial(list(v.values()), roles.get(trial, ""), ranked[name]),
            v,
            trial,
        )
        for (trial, name), v in values.items()
    )
