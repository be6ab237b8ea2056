"""The tables of a comparison, for the terminal and the page, and the whole as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from drillyard.documents.json_types import JsonObject
from drillyard.report.comparison.model import Candidate, Comparison
from drillyard.results import formatting
from drillyard.results.model import PolicyScore
from drillyard.results.table import effort, longest_s
from drillyard.system.tables import Grid, Table, rows_grid


def scores_grid(comparison: Comparison) -> Grid:
    """One line for each of the compared, best first: score, interval, place, effort, cost."""
    decimals = formatting.score_decimals(s for s in comparison.scores if s is not None)
    rows = [
        (candidate, score, *effort(candidate.results.runs))
        for candidate, score in _best_first(comparison)
    ]
    table = Table(f"comparison by {comparison.measure}", rows)
    table.text("experiment", lambda row: row[0].label)
    table.number(
        f"mean {short(comparison.measure)}",
        lambda row: formatting.fixed(row[1].mean_return, decimals) if row[1] else None,
    )
    table.number(
        "95 % interval",
        lambda row: formatting.interval(row[1].interval, decimals) if row[1] else None,
    )
    table.text("interval over", lambda row: _over(row[1], decimals))
    table.text("place", lambda row: _place(comparison, row[0].label))
    table.number("steps", lambda row: row[2], spare=True)
    table.number("training", lambda row: row[4], spare=True)
    return table.number("cost", lambda row: _cost(row[0]), spare=True)


def _best_first(comparison: Comparison) -> list[tuple[Candidate, PolicyScore | None]]:
    both = list(zip(comparison.candidates, comparison.scores, strict=True))
    return sorted(both, key=lambda pair: (pair[1] is None, -pair[1].mean_return if pair[1] else 0))


def short(measure: str) -> str:
    """``return`` for the return on any simulator; the name of a metric."""
    return "return" if measure.startswith("return on ") else measure


def _over(score: PolicyScore | None, decimals: int) -> str:
    if score is None:
        return "no final evaluation"
    if len(score.seeds) == 1 and not score.n_episodes:
        return "one run"
    return formatting.over(score, decimals)


def _place(comparison: Comparison, label: str) -> str | None:
    places = comparison.places.get(label)
    return None if places is None else formatting.place(places)


def _cost(candidate: Candidate) -> str | None:
    """The cost of the whole experiment; a trial's share of a lease is in ``results --csv``."""
    costs = candidate.results.costs
    paid = dict.fromkeys((lease.currency for lease in costs), 0.0)
    for lease in costs:
        paid[lease.currency] += lease.total
    text = " + ".join(formatting.money(total, k) for k, total in paid.items() if total)
    return text or (formatting.money(0, "") if costs else None)


def episodes_grid(comparison: Comparison) -> Grid:
    """Each with each on the evaluation episodes that both played."""
    pairs = comparison.episode_pairs
    decimals = formatting.shared_decimals(p.found.difference for p in pairs)
    table = Table("episodes", pairs)
    table.text("policies of", lambda p: p.one)
    table.text("compared with", lambda p: p.other)
    table.number("episodes", lambda p: p.found.n)
    table.number("mean difference", lambda p: formatting.fixed(p.found.difference, decimals))
    table.number(
        "95 %, all at once", lambda p: formatting.ends(p.found.low, p.found.high, decimals)
    )
    table.number("higher in", lambda p: f"{p.found.wins} of {p.found.n}")
    return table.text("so they are", lambda p: p.word)


def settings_grid(comparison: Comparison) -> Grid:
    """Settings that differ, side by side."""
    nothing = formatting.NOTHING
    rows = [
        (s.path, *(nothing if value is None else value for value in s.values))
        for s in comparison.settings
    ]
    return rows_grid("settings", ("setting", *comparison.labels), rows)


def measures_grid(comparison: Comparison) -> Grid:
    """Means over runs of every other measure that one of them has."""

    def mean(candidate: Candidate) -> Callable[[str], str | None]:
        def text(measure: str) -> str | None:
            values = candidate.measures.get(measure, {}).values()
            return formatting.number(sum(values) / len(values)) if values else None

        return text

    names = dict.fromkeys(m for c in comparison.candidates for m in c.measures)
    table = Table("measures", [name for name in names if name != comparison.measure])
    table.text("measure", str)
    for candidate in comparison.candidates:
        table.number(candidate.label, mean(candidate))
    return table


def effort_grid(comparison: Comparison) -> Grid:
    """Time, speed, cost and state of each."""
    table = Table(
        "effort", [(c, c.results, *effort(c.results.runs)) for c in comparison.candidates]
    )
    table.text("experiment", lambda row: row[0].label)
    table.text("status", lambda row: row[1].status)
    table.number(
        "runs finished",
        lambda row: f"{sum(r.finished for r in row[1].runs)} of {len(row[1].runs)}",
    )
    table.number("steps", lambda row: row[2])
    table.number("steps/s", lambda row: row[3])
    table.number("longest training", lambda row: row[4])
    table.number("in all", lambda row: formatting.duration(row[1].worked_s))
    table.number("cost", lambda row: _cost(row[0]))
    return table.text("started", lambda row: formatting.moment(row[1].created_at))


def to_json(comparison: Comparison) -> JsonObject:
    """Everything that the page shows, as JSON values with full precision."""
    experiments: list[JsonObject] = [
        {
            "label": c.label,
            "place": c.place,
            "status": c.results.status,
            "chosen": c.chosen or None,
            "runs": [r.run for r in c.results.runs],
            "score": None if score is None else dataclasses.asdict(score),
            "measures": {m: {str(k): v for k, v in by.items()} for m, by in c.measures.items()},
            "place_range": [*comparison.places.get(c.label, ())] or None,
            "worked_s": c.results.worked_s,
            "training_s": longest_s(c.results.runs),
            "cost": [dataclasses.asdict(lease) for lease in c.results.costs],
        }
        for c, score in zip(comparison.candidates, comparison.scores, strict=True)
    ]
    return {
        "schema_version": 1,
        "measure": comparison.measure,
        "verdict": comparison.verdict,
        "experiments": [*experiments],
        "pairs": [dataclasses.asdict(pair) for pair in comparison.pairs],
        "untested": {**comparison.untested},
        "episode_pairs": [dataclasses.asdict(pair) for pair in comparison.episode_pairs],
        "settings": {s.path: list(s.values) for s in comparison.settings},
        "notes": list(comparison.notes),
        "warnings": list(comparison.warnings),
        "mlflow": comparison.mlflow,
    }
