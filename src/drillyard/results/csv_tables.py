"""The results as CSV, with full precision, for programs."""

from __future__ import annotations

from collections.abc import Callable

from drillyard.results.model import ExperimentResults, MetricScore, PolicyScore
from drillyard.results.table import best_runs
from drillyard.system.tables import csv_of

POLICY: dict[str, Callable[[PolicyScore], object]] = {
    "policy": lambda p: p.policy,
    "baseline": lambda p: int(p.baseline),
    "trial": lambda p: p.trial,
    "mean_return": lambda p: p.mean_return,
    "ci95_low": lambda p: p.interval.low if p.interval else None,
    "ci95_high": lambda p: p.interval.high if p.interval else None,
    "interval_over": lambda p: p.interval.over if p.interval else None,
    "interval_method": lambda p: p.interval.method if p.interval else None,
    "n_seeds": lambda p: len(p.seeds),
    "n_episodes": lambda p: p.n_episodes,
    "std_return": lambda p: p.std_return,
    "mean_length": lambda p: p.mean_length,
    "simulator": lambda p: p.simulator,
}
"""Columns of a policy."""
METRIC: dict[str, Callable[[MetricScore], object]] = {
    "metric": lambda m: m.metric,
    "trial": lambda m: m.trial,
    "mean": lambda m: m.mean,
    "ci95_low": lambda m: m.interval.low if m.interval else None,
    "ci95_high": lambda m: m.interval.high if m.interval else None,
    "interval_method": lambda m: m.interval.method if m.interval else None,
    "n_seeds": lambda m: len(m.seeds),
}
"""Columns of a metric."""


def policies_csv(results: ExperimentResults) -> str:
    """Agent and baselines as CSV, full precision; empty cells where nothing is known.

    Where nothing is trained, the metrics.
    """
    if not results.learns:
        return metrics_csv(results)
    return csv_of(results.policies, {"experiment": lambda _: results.name, **POLICY})


def metrics_csv(results: ExperimentResults) -> str:
    """One line a metric and trial, full precision."""
    return csv_of(results.metrics, {"experiment": lambda _: results.name, **METRIC})


def runs_csv(results: ExperimentResults, top: int | None = None) -> str:
    """One line a run as CSV, full precision."""
    return csv_of(
        results.runs if top is None else best_runs(results, top),
        {
            "experiment": lambda _: results.name,
            "run": lambda r: r.run,
            "trial": lambda r: r.trial,
            "seed": lambda r: r.seed,
            "status": lambda r: r.status,
            "steps": lambda r: r.step,
            "total_steps": lambda r: r.total,
            "steps_per_s": lambda r: r.steps_per_s,
            "wall_s": lambda r: r.wall_s,
            "mean_return": lambda r: r.mean_return,
            "policy_used": lambda r: r.policy_used,
            "best_step": lambda r: (r.best or {}).get("step"),
            "best_mean_return": lambda r: (r.best or {}).get("mean_return"),
            "resumes": lambda r: r.resumes,
            "attempts": lambda r: r.attempts,
            "exactness": lambda r: r.exactness,
        },
    )
