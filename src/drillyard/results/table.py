"""The tables of results: policies, metrics and runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from drillyard.results import formatting
from drillyard.results.model import ExperimentResults, MetricScore, PolicyScore, RunResult
from drillyard.system.durations import duration
from drillyard.system.tables import Grid, Table
from drillyard.system.terminal import print_grid

REMOVED = "seed removed"
"""Said of a run whose seed the experiment has no longer; it counts in nothing."""
_METRIC_COLUMNS = 6


def policies_grid(results: ExperimentResults) -> Grid:
    """Agent and baselines: mean return, interval, what it is over; steps and time of the agent.

    If nothing is trained, the metrics take their place.
    """
    if not results.learns:
        return metrics_grid(results)
    decimals = formatting.score_decimals(results.policies)
    table = Table(_title(results), [(p, *_effort_of(results, p)) for p in results.policies])
    table.text("policy", lambda row: row[0].policy)
    table.number("mean return", lambda row: formatting.fixed(row[0].mean_return, decimals))
    table.number("95 % interval", lambda row: formatting.interval(row[0].interval, decimals))
    table.text("interval over", lambda row: formatting.over(row[0], decimals))
    table.number("steps", lambda row: row[1], spare=True)
    table.number("steps/s", lambda row: row[2], spare=True)
    table.number("training", lambda row: row[3], spare=True)
    return table if results.policies else _without_rows(table, "agent", "not evaluated yet")


def score_grids(results: ExperimentResults) -> list[Grid]:
    """All tables of results: policies, and metrics where there are both."""
    both = [metrics_grid(results)] if results.learns and results.metrics else []
    return [policies_grid(results), *both]


def metrics_grid(results: ExperimentResults) -> Grid:
    """One line a metric: mean over seeds, interval, the values where they are few."""
    several = len({m.trial for m in results.metrics}) > 1

    def name(m: MetricScore) -> str:
        return f"{m.metric} t{m.trial:04d}" if several else m.metric

    table = Table(_title(results), results.metrics)
    table.text("metric", name)
    table.number("mean", lambda m: formatting.number(m.mean))
    table.number("95 % interval", lambda m: formatting.interval(m.interval))
    table.text("over", formatting.over_seeds)
    if results.metrics:
        return table
    if any(r.status == "SUCCEEDED" for r in results.runs):
        return _without_rows(table, "no metrics", "none were asked for")
    return _without_rows(table, "metrics", "not measured yet")


def _without_rows(table: Grid, what: str, why: str) -> Grid:
    """A table that says in its one row what is missing, and why."""
    cells = (what, formatting.NOTHING, formatting.NOTHING, why, "", "", "")
    columns = zip(table.columns, cells, strict=False)
    return Grid(table.title, (dataclasses.replace(c, cells=(cell,)) for c, cell in columns))


def _title(results: ExperimentResults) -> str:
    title = f"{results.name}: {formatting.learner(results)}"
    if results.ended_at is not None:
        title += f", {duration(results.worked_s)} in all"
    return title


def _effort_of(results: ExperimentResults, p: PolicyScore) -> tuple[str, str, str]:
    runs = [r for r in results.runs if r.trial == p.trial and r.seed in p.seeds]
    return ("", "", "") if p.baseline or not runs else effort(runs)


def effort(runs: Sequence[RunResult]) -> tuple[str, str, str]:
    """Steps of a run, steps/s of a run (mean), training time of the longest run."""
    steps = [r.step for r in runs] or [0]
    least, most = min(steps), max(steps)
    text = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    text = f"{len(runs)} x {text}" if len(runs) > 1 else text
    speeds = [r.steps_per_s for r in runs if r.steps_per_s]
    speed = sum(speeds) / len(speeds) if speeds else None
    return text if most else formatting.NOTHING, formatting.count(speed), duration(longest_s(runs))


def longest_s(runs: Sequence[RunResult]) -> float | None:
    """The longest training time of some runs."""
    return max((r.wall_s for r in runs if r.wall_s is not None), default=None)


def runs_grid(results: ExperimentResults, top: int | None = None) -> Grid:
    """One line a run: where it is, how fast, what it reached.

    Args:
        results: What was collected.
        top: Only so many runs, best final evaluation first.
    """
    removed = (dataclasses.replace(r, status=f"{r.status}, {REMOVED}") for r in results.removed)
    runs = [*results.runs, *removed] if top is None else best_runs(results, top)
    table = Table("runs", runs)
    table.text("run", lambda r: r.run)
    table.text("status", lambda r: r.status)
    if results.learns:
        decimals = formatting.shared_decimals(r.mean_return for r in runs)
        table.number("steps", steps)
        table.number("steps/s", lambda r: formatting.count(r.steps_per_s))
        table.number("training", lambda r: duration(r.wall_s))
        table.number("mean return", lambda r: formatting.fixed(r.mean_return, decimals))
        table.number("resumes", lambda r: r.resumes)
    else:
        table.number("time", lambda r: duration(r.wall_s))
        names = dict.fromkeys(name for r in runs for name in r.metrics)
        for name in list(names)[:_METRIC_COLUMNS]:
            table.number(name, _metric(name))
    return table.number("attempts", lambda r: r.attempts)


def print_results(results: ExperimentResults, top: int | None = None) -> None:
    """Prints the tables of policies, metrics and runs; see ``runs_grid``."""
    import typer

    for grid in score_grids(results):
        print_grid(grid)
        typer.echo("")
    print_grid(runs_grid(results, top))


def _metric(name: str) -> Callable[[RunResult], str]:
    return lambda r: formatting.number(r.metrics.get(name))


def best_runs(results: ExperimentResults, top: int) -> list[RunResult]:
    """The runs with the best final evaluation; those without one come last."""
    ranked = sorted(
        results.runs,
        key=lambda r: (r.mean_return is None, -(r.mean_return or 0.0), r.run),
    )
    return ranked[:top]


def steps(run: RunResult) -> str:
    """``12,000 / 60,000`` while it runs, ``60,000`` once that is all of them, or more."""
    if run.total and run.step < run.total:
        return f"{run.step:,}/{run.total:,}"
    return f"{run.step:,}"
