"""The results as tables: rich on a terminal, aligned text elsewhere.

Both forms come from the same rows, so that they cannot say different things.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.results import formatting
from drillyard.results.model import ExperimentResults, PolicyScore, RunResult

if TYPE_CHECKING:
    from rich.table import Table


UNBROKEN = frozenset({"policy", "run", "status", "95 % interval", "range of seeds", "lease"})
"""Columns of words that are short enough for one line."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]
    """Columns that are aligned to the right: the numbers."""
    spare: frozenset[int] = frozenset()
    """Columns that a narrow terminal goes without, because another table has them too."""

    def within(self, width: int) -> Grid:
        """As it is where it fits into so many characters.

        Else without the columns that say nothing in any row, and if that is not enough without
        the spare ones, too.
        """
        if self._natural() <= width:
            return self
        silent = {
            i
            for i in range(len(self.header))
            if all(r[i] in ("", formatting.NOTHING) for r in self.rows)
        }
        narrower = self._without(silent) if self.rows else self
        return narrower if narrower._natural() <= width else narrower._without(narrower.spare)

    def _natural(self) -> int:
        # Two spaces between columns; headings of numbers stand on two lines.
        return sum(
            max(len(row[i]) for row in (*self.rows, self._heading()))
            for i in range(len(self.header))
        ) + 2 * len(self.header)

    def _without(self, columns: Set[int]) -> Grid:
        kept = [i for i in range(len(self.header)) if i not in columns]

        def moved(own: Set[int]) -> frozenset[int]:
            return frozenset(n for n, i in enumerate(kept) if i in own)

        return Grid(
            self.title,
            tuple(self.header[i] for i in kept),
            tuple(tuple(row[i] for i in kept) for row in self.rows),
            moved(self.right),
            moved(self.spare),
        )

    def _heading(self) -> tuple[str, ...]:
        return tuple(
            max(name.rsplit(" ", 1), key=len) if i in self.right else name
            for i, name in enumerate(self.header)
        )


def policies_grid(results: ExperimentResults) -> Grid:
    """Agent and baselines: mean return, interval, what it is over; steps and time of the agent.

    If nothing is trained, the metrics take their place.
    """
    if not results.learns:
        return metrics_grid(results)
    header = (
        "policy",
        "mean return",
        "95 % interval",
        "interval over",
        "steps",
        "steps/s",
        "training",
    )
    decimals = formatting.score_decimals(results.policies)
    rows = [
        (
            p.policy,
            formatting.fixed(p.mean_return, decimals),
            formatting.interval(p.interval, decimals),
            formatting.over(p, decimals),
            *_effort(results, p),
        )
        for p in results.policies
    ]
    if not rows:
        rows = [("agent", formatting.NOTHING, formatting.NOTHING, "not evaluated yet", "", "", "")]
    return Grid(
        _title(results), header, tuple(rows), frozenset({1, 2, 4, 5, 6}), frozenset({4, 5, 6})
    )


def score_grids(results: ExperimentResults) -> list[Grid]:
    """All tables of results: policies, and metrics where there are both."""
    both = [metrics_grid(results)] if results.learns and results.metrics else []
    return [policies_grid(results), *both]


def metrics_grid(results: ExperimentResults) -> Grid:
    """One line a metric: mean over seeds, interval, the values where they are few."""
    several = len({m.trial for m in results.metrics}) > 1
    rows = [
        (
            f"{m.metric} t{m.trial:04d}" if several else m.metric,
            formatting.number(m.mean),
            formatting.interval(m.interval),
            formatting.over_seeds(m),
        )
        for m in results.metrics
    ]
    if not rows:
        done = any(r.status == "SUCCEEDED" for r in results.runs)
        rows = [
            (
                "no metrics" if done else "metrics",
                formatting.NOTHING,
                formatting.NOTHING,
                "none were asked for" if done else "not measured yet",
            )
        ]
    return Grid(
        _title(results),
        ("metric", "mean", "95 % interval", "over"),
        tuple(rows),
        frozenset({1, 2}),
    )


def _title(results: ExperimentResults) -> str:
    title = f"{results.name}: {formatting.learner(results)}"
    if results.ended_at is not None:
        title += f", {formatting.duration(results.worked_s)} in all"
    return title


def _effort(results: ExperimentResults, p: PolicyScore) -> tuple[str, str, str]:
    """Steps of a run, steps/s of a run (mean), training time of the longest run."""
    runs = [r for r in results.runs if r.trial == p.trial and r.seed in p.seeds]
    if p.baseline or not runs:
        return ("", "", "")
    steps = {r.step for r in runs}
    text = f"{min(steps):,}" if len(steps) == 1 else f"{min(steps):,} to {max(steps):,}"
    if len(runs) > 1:
        text = f"{len(runs)} x {text}"
    speeds = [r.steps_per_s for r in runs if r.steps_per_s]
    times = [r.wall_s for r in runs if r.wall_s is not None]
    speed = f"{sum(speeds) / len(speeds):,.0f}" if speeds else formatting.NOTHING
    return text, speed, formatting.duration(max(times, default=None))


REMOVED = "seed removed"
"""Said of a run whose seed the experiment has no longer; it counts in nothing."""


def runs_grid(results: ExperimentResults, top: int | None = None) -> Grid:
    """One line a run: where it is, how fast, what it reached.

    Args:
        results: What was collected.
        top: Only so many runs, best final evaluation first.
    """
    chosen = [
        *results.runs,
        *(dataclasses.replace(r, status=f"{r.status}, {REMOVED}") for r in results.removed),
    ]
    if top is not None:
        chosen = list(best_runs(results, top))
    if not results.learns:
        return _measured_runs(chosen)
    decimals = formatting.shared_decimals(r.mean_return for r in chosen)
    rows = tuple(
        (
            r.run,
            r.status,
            steps(r),
            formatting.count(r.steps_per_s),
            formatting.duration(r.wall_s),
            formatting.fixed(r.mean_return, decimals),
            str(r.resumes),
            str(r.attempts),
        )
        for r in chosen
    )
    header = (
        "run",
        "status",
        "steps",
        "steps/s",
        "training",
        "mean return",
        "resumes",
        "attempts",
    )
    return Grid("runs", header, rows, frozenset(range(2, 8)))


def _measured_runs(runs: Sequence[RunResult]) -> Grid:
    """The runs of a workload that trains no policy, with the first few metrics."""
    names = list(dict.fromkeys(name for r in runs for name in r.metrics))[:_METRIC_COLUMNS]
    rows = tuple(
        (
            r.run,
            r.status,
            formatting.duration(r.wall_s),
            *(formatting.number(r.metrics.get(n)) for n in names),
            str(r.attempts),
        )
        for r in runs
    )
    header = ("run", "status", "time", *names, "attempts")
    return Grid("runs", header, rows, frozenset(range(2, len(header))))


_METRIC_COLUMNS = 6


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


def results_table(results: ExperimentResults) -> Table:
    """The table that ``run`` and ``results`` print on a terminal: agent and baselines."""
    return rich_table(policies_grid(results))


def runs_table(results: ExperimentResults, top: int | None = None) -> Table:
    """One line a run, for a terminal."""
    return rich_table(runs_grid(results, top))


def rich_table(grid: Grid, width: int | None = None) -> Table:
    """A grid as a rich table; texts are taken as they are, never as markup.

    Args:
        grid: The texts.
        width: Characters of the terminal; a narrow one goes without spare columns.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if width is not None:
        grid = grid.within(width)
    table = Table(
        title=Text(grid.title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for index, name in enumerate(grid.header):
        number = index in grid.right
        # A number that is cut in two is misread, so only columns with spaces wrap. Where the rest
        # does not fit even so, "…" says that something is missing.
        whole = name in UNBROKEN or (number and not any(" " in row[index] for row in grid.rows))
        table.add_column(
            "\n".join(name.rsplit(" ", 1)) if number else name,
            no_wrap=whole,
            justify="right" if number else "left",
            overflow="ellipsis" if whole else "fold",
        )
    agent = grid.header[0] == "policy"
    for row in grid.rows:
        style = "bold" if agent and row[0].split(" ")[0] == "agent" else None
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table


def plain_table(grid: Grid) -> str:
    """A grid as aligned text without any control character."""
    cells = [grid.header, *grid.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(grid.header))]

    def line(row: tuple[str, ...]) -> str:
        padded = [
            c.rjust(w) if i in grid.right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([grid.title, line(cells[0]), rule, *map(line, cells[1:])])
