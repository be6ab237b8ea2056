"""The results as CSV, with full precision, for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from drillyard.results.model import ExperimentResults, PolicyScore
from drillyard.results.table import best_runs

POLICY_COLUMNS = (
    "experiment",
    "policy",
    "baseline",
    "trial",
    "mean_return",
    "ci95_low",
    "ci95_high",
    "interval_over",
    "interval_method",
    "n_seeds",
    "n_episodes",
    "std_return",
    "mean_length",
    "simulator",
)


def policies_csv(results: ExperimentResults) -> str:
    """Agent and baselines as CSV, full precision; empty cells where nothing is known.

    Where nothing is trained, the metrics.
    """
    if not results.learns:
        return metrics_csv(results)
    return to_csv(POLICY_COLUMNS, (policy_row(results.name, p) for p in results.policies))


def metrics_csv(results: ExperimentResults) -> str:
    """One line a metric and trial, full precision."""
    header = (
        "experiment",
        "metric",
        "trial",
        "mean",
        "ci95_low",
        "ci95_high",
        "interval_method",
        "n_seeds",
    )
    rows = (
        (
            results.name,
            m.metric,
            m.trial,
            m.mean,
            m.interval.low if m.interval else None,
            m.interval.high if m.interval else None,
            m.interval.method if m.interval else None,
            len(m.seeds),
        )
        for m in results.metrics
    )
    return to_csv(header, rows)


def policy_row(experiment: str, p: PolicyScore) -> tuple[object, ...]:
    """One line of ``policies_csv``."""
    i = p.interval
    return (
        experiment,
        p.policy,
        int(p.baseline),
        p.trial,
        p.mean_return,
        i.low if i else None,
        i.high if i else None,
        i.over if i else None,
        i.method if i else None,
        len(p.seeds),
        p.n_episodes,
        p.std_return,
        p.mean_length,
        p.simulator,
    )


def runs_csv(results: ExperimentResults, top: int | None = None) -> str:
    """One line a run as CSV, full precision."""
    header = (
        "experiment",
        "run",
        "trial",
        "seed",
        "status",
        "steps",
        "total_steps",
        "steps_per_s",
        "wall_s",
        "mean_return",
        "policy_used",
        "best_step",
        "best_mean_return",
        "resumes",
        "attempts",
        "exactness",
    )
    chosen = results.runs if top is None else best_runs(results, top)
    rows = (
        (
            results.name,
            r.run,
            r.trial,
            r.seed,
            r.status,
            r.step,
            r.total,
            r.steps_per_s,
            r.wall_s,
            r.mean_return,
            r.policy_used,
            (r.best or {}).get("step"),
            (r.best or {}).get("mean_return"),
            r.resumes,
            r.attempts,
            r.exactness,
        )
        for r in chosen
    )
    return to_csv(header, rows)


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text; lines end as on Unix.

    A text that a spreadsheet would take for a formula (names are the user's) gets an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
