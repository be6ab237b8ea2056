"""A study as tables: on the terminal the best trials, as CSV or Parquet every seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drillyard.errors import UserError
from drillyard.mailbox.status import Status
from drillyard.results import formatting
from drillyard.results.trials import COMPARED, StudyResults, TrialRow, columns
from drillyard.system.lists import few
from drillyard.system.optional_packages import install
from drillyard.system.output_files import writing
from drillyard.system.tables import Grid, Table, to_csv

PARAMETERS = 5
"""Parameters that a table on a terminal shows; all are in the CSV."""
SHOWN = 10
"""Trials that are shown by default."""
RANGE, AT_ONCE = "range of seeds", "95 % interval, all at once"
"""What the column beside the values is: a search has no intervals, see ``StudyResults.interval``;
those of a list hold whichever line is picked."""
BETTER = ", better than"
"""How the sentence goes on about a first that the tests tell apart from all others."""
NAMED = 5
"""Ids that are named of the trials that are not shown."""


def trials_grid(study: StudyResults, top: int | None = None) -> Grid:
    """The best trials, one line each: value over seeds with interval, and what was chosen.

    Args:
        study: The trials.
        top: How many; default 10.
    """
    rows = _shown(study, top)
    if len(study.simulators) > 1:
        rows.sort(key=lambda t: study.simulators.index(study.simulator(t)))
    first = study.first.name
    intervals = {t.number: study.interval(t) for t in rows}
    certain = next((i for i in intervals.values() if i is not None), None)
    how = RANGE if certain is None else AT_ONCE if certain.among > 1 else "95 % interval"
    decimals = {
        o.name: formatting.shared_decimals(t.values.get(o.name) for t in rows)
        for o in study.objectives
    }

    def spread(t: TrialRow) -> str:
        if certain is None:
            return extent(t, first, decimals[first])
        return formatting.interval(intervals[t.number], decimals[first])

    table = Table(title(study, len(rows)), rows).text("trial", lambda t: t.id)
    if any(t.label for t in rows):
        table.text("label", lambda t: t.label)
    for o in study.objectives:
        table.number(o.name, _objective(o.name, decimals[o.name]))
    table.number(how, spread)
    table.number("seeds", lambda t: len(t.seeds))
    table.text("status", lambda t: t.status)
    table.text("chosen by", lambda t: t.chooser, spare=True)
    for name in varied(study)[:PARAMETERS]:
        table.text(name, _parameter(name))
    return table


def _objective(name: str, decimals: int) -> Callable[[TrialRow], str]:
    return lambda t: formatting.fixed(t.values.get(name), decimals)


def _parameter(name: str) -> Callable[[TrialRow], str]:
    return lambda t: value(t.assignment.get(name))


def extent(t: TrialRow, objective: str, decimals: int | None = None) -> str:
    """The smallest and the largest value of its seeds; nothing for a single one."""
    values = list(t.by_seed.get(objective, {}).values())
    if len(values) < 2:
        return formatting.NOTHING
    return formatting.ends(min(values), max(values), decimals)


def _shown(study: StudyResults, top: int | None) -> list[TrialRow]:
    return study.top(top or SHOWN) if study.ranked() else list(study.trials)[: top or SHOWN]


def title(study: StudyResults, n_rows: int) -> str:
    """What the table is: ``search: the best 5 of 40 trials by evaluate/return (most is best)``."""
    first = study.first
    total = formatting.plural(len(study.searched), "trial")
    if not study.ranked():
        return f"{study.name}: {n_rows:,} of {total}, none of which has succeeded"
    order = "most" if first.direction == "max" else "least"
    return f"{study.name}: the best {n_rows:,} of {total} by {first.name} ({order} is best)"


def left_out(study: StudyResults, top: int | None = None) -> str:
    """Where the trials are that the table does not show; empty when it shows all.

    Args:
        study: The trials.
        top: As for ``trials_grid``.
    """
    there = {t.number for t in _shown(study, top)}
    others: dict[str, list[TrialRow]] = {}
    for t in study.trials:
        if t.number not in there:
            others.setdefault("confirms" if t.of is not None else t.status, []).append(t)
    parts = []
    for status, trials in sorted(others.items(), key=lambda i: -len(i[1])):
        ids = few([t.id for t in trials], NAMED, ", …")
        if status == "confirms":
            parts.append(f"{ids} on {study.fresh}")
        elif status == Status.SUCCEEDED and study.ranked():
            parts.append(f"{len(trials):,} that did worse (--top {len(there) + len(trials)})")
        else:
            parts.append(f"{len(trials):,} {status.lower().replace('_', ' ')} ({ids})")
    return f"not shown: {'; '.join(parts)}" if parts else ""


def varied(study: StudyResults) -> list[str]:
    """Parameters that differ between trials, in their order."""
    seen: dict[str, set[str]] = {}
    for t in study.trials:
        for name, values in t.assignment.items():
            seen.setdefault(name, set()).add(repr(values))
    return [name for name, values in seen.items() if len(values) > 1]


def value(given: Any) -> str:
    """A parameter's value, short."""
    if isinstance(given, bool) or given is None:
        return formatting.NOTHING if given is None else str(given).lower()
    if isinstance(given, int):
        return str(given)
    if isinstance(given, float):
        return f"{given:.4g}"
    return given if isinstance(given, str) else json.dumps(given)


def counts(study: StudyResults) -> str:
    """``40 trials: 31 SUCCEEDED, 6 PRUNED, 3 FAILED``."""
    n_of: dict[str, int] = {}
    for t in study.searched:
        n_of[t.status] = n_of.get(t.status, 0) + 1
    each = ", ".join(f"{n:,} {status}" for status, n in sorted(n_of.items(), key=lambda i: -i[1]))
    return f"{formatting.plural(len(study.searched), 'trial')}: {each or 'none chosen yet'}"


def verdict(study: StudyResults) -> str:
    """The answer in a sentence or two: which trial won, and what it reached on fresh seeds."""
    best = study.best
    if best is None:
        ended = study.state.phase == "over"
        return counts(study) + ("; none succeeded." if ended else "; none has succeeded yet.")
    if len(study.simulators) > 1:
        return (
            f"{formatting.plural(len(study.searched), 'experiment')} on {len(study.simulators)} "
            f"simulators, which have no common scale: the report compares them. {counts(study)}."
        )
    name = study.first.name
    told_apart = "" if study.chosen_by_score else _told_apart(study)
    text = f"{_called(best)} {_place(study, told_apart)} {name} "
    text += formatting.number(best.values[name])
    text += f" over {formatting.plural(len(best.by_seed.get(name, best.seeds)), 'seed')}"
    if study.chosen_by_score:
        among = f"the best of {formatting.plural(len(study.ranked()), 'trial')}"
        text += f", {among}" if held(study) else f", which is optimistic: {among}"
    text += told_apart
    if study.state.front and len(study.objectives) > 1:
        text = (
            f"{formatting.plural(len(study.state.front), 'trial')} that no other one beats in "
            f"every objective; the best {name} is that of {_called(best)}: "
            f"{formatting.number(best.values[name])}"
        )
    again = study.confirmed
    if again is not None:
        text += (
            f"; run again on {_fresh(study, again)} it reached "
            f"{formatting.number(again.values.get(name))}, which is "
            f"{'not worse and ' if held(study) else ''}the score to report"
        )
    elif best.of is None and study.state.phase == "confirm":
        text += f"; it is being run again on {study.fresh}"
    return f"{text}. {counts(study)}."


def held(study: StudyResults) -> bool:
    """Whether the winner, run again, was no worse than in the search.

    A score that chose the winner mostly is too good; this one was not.
    """
    best, again, first = study.best, study.confirmed, study.first
    if best is None or again is None:
        return False
    values = [t.values.get(first.name) for t in (best, again)]
    searched, repeated = (math.nan if v is None else first.sign * v for v in values)
    return repeated >= searched


def _place(study: StudyResults, told_apart: str) -> str:
    """What may be said of the first: nothing has won that runs, or that no test tells apart."""
    if study.state.phase not in ("confirm", "over"):
        return "leads so far with"
    if study.chosen_by_score or told_apart.startswith(BETTER):
        return "won with"
    return "has the best"


def _told_apart(study: StudyResults) -> str:
    """What the first of a list is worth beside the others."""
    ranked = study.ranked()
    verdicts = study.verdicts()
    if len(ranked) < 2:
        return ""
    if not verdicts:
        return "; from so few seeds nothing is told apart"
    first = ranked[0].id
    others = ranked[1:COMPARED]
    open_ = [t for t in others if verdicts[first, t.id].word != "better"]
    if not open_:
        ended = "" if study.state.phase == "over" else " that has ended"
        return f"{BETTER} " + (
            f"every other trial{ended}"
            if len(ranked) <= COMPARED
            else f"each of the next {len(others)}{ended}"
        )
    return f"; not told apart from {few([_called(t) for t in open_], NAMED, ', …')}"


def _fresh(study: StudyResults, again: TrialRow) -> str:
    seeds = formatting.plural(len(again.seeds), "fresh seed")
    return study.fresh if study.fresh == "fresh episodes" else seeds


def _called(t: TrialRow) -> str:
    return f"{t.label} ({t.id})" if t.label else t.id


# -- files ----------------------------------------------------------------------------------------


def runs_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a seed as CSV, full precision; empty cells where nothing is known.

    Args:
        rows: From ``run_rows``.
    """
    names = columns(rows)
    return to_csv(names, ([row.get(n) for n in names] for row in rows))


def runs_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row a seed as a Parquet file, with types; times are UTC.

    A column whose values have several types (a parameter that is a number or a word) is text.

    Raises:
        UserError: pyarrow is not installed.
        ConfigError, StoreUnavailable: The file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow", hint=f"{install('control')}, or use --csv"
        ) from error

    table = {name: _column(pa, name, [row.get(name) for row in rows]) for name in columns(rows)}
    with writing(path, "--parquet"):
        pq.write_table(pa.table(table), path)


def print_study(study: StudyResults, top: int | None = None) -> None:
    """Prints the best trials of a study, where to find the others, and the verdict.

    Args:
        study: The study's trials.
        top: Number of trials; default 10.
    """
    import typer

    from drillyard.system.terminal import print_grid

    print_grid(trials_grid(study, top))
    if others := left_out(study, top):
        typer.echo(others)
    typer.echo("")
    typer.echo(verdict(study))


def _column(pa: Any, name: str, cells: list[Any]) -> Any:
    known = [json.dumps(c) if isinstance(c, dict | list) else c for c in cells]
    known = [c for c in known if c is not None]
    kinds, form = {type(c) for c in known}, None
    if name in ("started_at", "ended_at"):
        known, form = [round(float(c) * 1e6) for c in known], pa.timestamp("us", tz="UTC")
    elif kinds == {int, float}:
        known = [float(c) for c in known]
    elif len(kinds) != 1:
        known, form = [str(c) for c in known], pa.string()
    values = iter(known)
    return pa.array([None if c is None else next(values) for c in cells], form)
