"""The tables of a comparison, for the terminal and the page, and the whole as JSON."""

from __future__ import annotations

import dataclasses

from drillyard.documents.json_types import JsonObject
from drillyard.report.comparison.model import Candidate, Comparison
from drillyard.report.comparison.side_by_side import sentence
from drillyard.results import formatting
from drillyard.results.model import LeaseCost, PolicyScore
from drillyard.results.table import Grid

NONE = formatting.NOTHING


def scores_grid(found: Comparison) -> Grid:
    """One line for each of the compared, best first: score, interval, place, effort, cost."""
    known = [s for s in found.scores if s is not None]
    decimals = formatting.score_decimals(known)
    rows = []
    for candidate, score in _best_first(found):
        rows.append(
            (
                candidate.label,
                formatting.fixed(score.mean_return, decimals) if score else NONE,
                formatting.interval(score.interval, decimals) if score else NONE,
                _over(score, decimals),
                _place(found, candidate.label),
                _steps(candidate),
                formatting.duration(_training_s(candidate)),
                _cost(candidate),
            )
        )
    header = (
        "experiment",
        f"mean {_short(found.measure)}",
        "95 % interval",
        "interval over",
        "place",
        "steps",
        "training",
        "cost",
    )
    title = f"comparison by {found.measure}"
    spare = frozenset({5, 6, 7})
    return Grid(title, header, tuple(rows), frozenset({1, 2, 5, 6, 7}), spare)


def _best_first(found: Comparison) -> list[tuple[Candidate, PolicyScore | None]]:
    both = list(zip(found.candidates, found.scores, strict=True))
    return sorted(both, key=lambda pair: (pair[1] is None, -pair[1].mean_return if pair[1] else 0))


def _short(measure: str) -> str:
    return "return" if measure.startswith("return on ") else measure


def _over(score: PolicyScore | None, decimals: int) -> str:
    if score is None:
        return "no final evaluation"
    if len(score.seeds) == 1 and not score.n_episodes:
        return "one run"
    return formatting.over(score, decimals)


def _place(found: Comparison, label: str) -> str:
    if label not in found.places:
        return NONE
    best, last = found.places[label]
    return str(best) if best == last else f"{best} to {last}"


def _steps(candidate: Candidate) -> str:
    steps = [r.step for r in candidate.results.runs]
    if not any(steps):
        return NONE
    least, most = min(steps), max(steps)
    text = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"{len(steps)} x {text}" if len(steps) > 1 else text


def _training_s(candidate: Candidate) -> float | None:
    return max((r.wall_s for r in candidate.results.runs if r.wall_s is not None), default=None)


def _cost(candidate: Candidate) -> str:
    """The cost of the whole experiment; a trial's share of a lease is in ``results --csv``."""
    costs: tuple[LeaseCost, ...] = candidate.results.costs
    if not costs:
        return NONE
    by_currency: dict[str, float] = {}
    for lease in costs:
        by_currency[lease.currency] = by_currency.get(lease.currency, 0.0) + lease.total
    paid = {currency: total for currency, total in by_currency.items() if total}
    return " + ".join(formatting.money(v, k) for k, v in paid.items()) or formatting.money(0, "")


def pairs_grid(found: Comparison) -> Grid:
    """Each with each over their trainings."""
    decimals = formatting.shared_decimals(pair.difference for pair in found.pairs)
    rows = tuple(
        (
            pair.one,
            pair.other,
            formatting.fixed(pair.difference, decimals),
            f"{pair.p:.3f}",
            f"{pair.improvement.value:.2f}",
            NONE
            if pair.improvement.low is None or pair.improvement.high is None
            else f"{pair.improvement.low:.2f} to {pair.improvement.high:.2f}",
            pair.word,
        )
        for pair in found.pairs
    )
    header = (
        "this",
        "compared with",
        "difference",
        "p",
        "probability of improvement",
        "95 %, all at once",
        "so it is",
    )
    return Grid("pairs", header, rows, frozenset({2, 3, 4, 5}))


def episodes_grid(found: Comparison) -> Grid:
    """Each with each on the evaluation episodes that both played."""
    decimals = formatting.shared_decimals(p.found.difference for p in found.episode_pairs)
    rows = tuple(
        (
            pair.one,
            pair.other,
            str(pair.found.n),
            formatting.fixed(pair.found.difference, decimals),
            NONE
            if pair.found.low is None or pair.found.high is None
            else f"{formatting.fixed(pair.found.low, decimals)} to "
            f"{formatting.fixed(pair.found.high, decimals)}",
            f"{pair.found.wins} of {pair.found.n}",
            pair.word,
        )
        for pair in found.episode_pairs
    )
    header = (
        "policies of",
        "compared with",
        "episodes",
        "mean difference",
        "95 %, all at once",
        "higher in",
        "so they are",
    )
    return Grid("episodes", header, rows, frozenset({2, 3, 4, 5}))


def settings_grid(found: Comparison) -> Grid:
    """Settings that differ, side by side."""
    rows = tuple(
        (s.path, *(NONE if value is None else value for value in s.values)) for s in found.settings
    )
    return Grid("settings", ("setting", *found.labels), rows, frozenset())


def measures_grid(found: Comparison) -> Grid:
    """Means over runs of every other measure that one of them has."""
    names = list(dict.fromkeys(m for c in found.candidates for m in c.measures))
    names = [name for name in names if name != found.measure]
    rows = tuple(
        (name, *(_mean(list(c.measures.get(name, {}).values())) for c in found.candidates))
        for name in names
    )
    right = frozenset(range(1, len(found.candidates) + 1))
    return Grid("measures", ("measure", *found.labels), rows, right)


def _mean(values: list[float]) -> str:
    return formatting.number(sum(values) / len(values)) if values else NONE


def effort_grid(found: Comparison) -> Grid:
    """Time, speed, cost and state of each."""
    rows = []
    for c in found.candidates:
        results = c.results
        speeds = [r.steps_per_s for r in results.runs if r.steps_per_s]
        done = sum(r.finished for r in results.runs)
        rows.append(
            (
                c.label,
                results.status,
                f"{done} of {len(results.runs)}",
                _steps(c),
                f"{sum(speeds) / len(speeds):,.0f}" if speeds else NONE,
                formatting.duration(_training_s(c)),
                formatting.duration(results.worked_s),
                _cost(c),
                formatting.moment(results.created_at),
            )
        )
    header = (
        "experiment",
        "status",
        "runs finished",
        "steps",
        "steps/s",
        "longest training",
        "in all",
        "cost",
        "started",
    )
    return Grid("effort", header, tuple(rows), frozenset({2, 3, 4, 5, 6, 7}))


def to_json(found: Comparison) -> JsonObject:
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
            "place_range": list(found.places[c.label]) if c.label in found.places else None,
            "worked_s": c.results.worked_s,
            "training_s": _training_s(c),
            "cost": [dataclasses.asdict(lease) for lease in c.results.costs],
        }
        for c, score in zip(found.candidates, found.scores, strict=True)
    ]
    return {
        "schema_version": 1,
        "measure": found.measure,
        "verdict": sentence(found),
        "experiments": [*experiments],
        "pairs": [dataclasses.asdict(pair) for pair in found.pairs],
        "untested": {**found.untested},
        "episode_pairs": [dataclasses.asdict(pair) for pair in found.episode_pairs],
        "settings": {s.path: list(s.values) for s in found.settings},
        "notes": list(found.notes),
        "warnings": list(found.warnings),
        "mlflow": found.mlflow,
    }
