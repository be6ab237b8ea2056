"""Compares what was found: one measure, all tests, the settings that differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from drillyard.errors import misused
from drillyard.report.comparison import settings, verdict
from drillyard.report.comparison.candidates import find
from drillyard.report.comparison.mlflow_link import mlflow_link
from drillyard.report.comparison.model import Candidate, Comparison
from drillyard.report.comparison.tables import scores_grid, short
from drillyard.results import formatting
from drillyard.statistics import remark
from drillyard.system.lists import few


def compare(
    places: Sequence[str], store: str | None = None, measure: str | None = None
) -> Comparison:
    """Compare experiments, trials and runs.

    Args:
        places: Two or more names, or URLs and folders of other stores.
        store: Store of plain names; default DRILLYARD_STORE or ``./drillyard-runs``.
        measure: ``return``, or the name of a metric; default: the return where policies are
            trained, else the first metric that all have.

    Raises:
        UserError: One of them does not exist, or they have no measure in common.
        StoreUnavailable: A store cannot be read.
    """
    candidates = find(places, store)
    chosen = _measure(candidates, measure)
    pairs, places_of = verdict.pairs(candidates, chosen)
    differences = settings.differing(candidates)
    warnings = [f"{c.label}: {text}" for c in candidates for text in dict.fromkeys(c.warnings)]
    comparison = Comparison(
        candidates=tuple(candidates),
        measure=chosen,
        scores=verdict.scores(candidates, chosen),
        pairs=pairs,
        untested=verdict.untested(candidates, chosen),
        episode_pairs=verdict.episode_pairs(candidates, chosen),
        places=places_of,
        settings=differences,
        notes=tuple(settings.notes(candidates, differences)),
        mlflow=mlflow_link(candidates),
        warnings=tuple(warnings),
    )
    return replace(comparison, scores_table=scores_grid(comparison), verdict=sentence(comparison))


def _measure(candidates: Sequence[Candidate], named: str | None) -> str:
    """The measure that is compared.

    Raises:
        ConfigError: They have none in common, or not the one that was named.
    """
    # A candidate that measured nothing yet is shown without a value.
    known = [c for c in candidates if c.measures]
    if not known:
        hint = f"drillyard status {candidates[0].results.name} shows how far it is"
        raise misused("none of them has measured anything yet", hint=hint)
    common = [m for m in known[0].measures if all(m in c.measures for c in known)]
    each = "; ".join(f"{c.label} has {few(list(c.measures), 4)}" for c in known)
    if not common:
        hint = "compare experiments on the same simulator, or with a metric of the same name"
        raise misused(f"they share no measure: {each}", hint=hint)
    by_name = {name: name for name in common} | {short(name): name for name in reversed(common)}
    if named is None and not any(c.results.learns for c in known):
        return common[0]
    # A composite has a metric `return`, too, of whatever simulator it trained on.
    if named is None and not any(m.startswith(verdict.RETURN) for m in common):
        hint = f"compare them by a metric that all have: --measure {common[0]}"
        raise misused(f"they have no return in common: {each}", hint=hint)
    measure = by_name.get("return" if named is None else named)
    if measure is not None:
        return measure
    raise misused(
        "is not a measure that all of them have",
        "--measure",
        named,
        allowed=", ".join(map(short, common)),
        hint="drillyard results NAME shows what an experiment measured",
    )


def sentence(comparison: Comparison) -> str:
    """The answer in one or two sentences; never more than the tests decide."""
    known = [
        (c, s)
        for c, s in zip(comparison.candidates, comparison.scores, strict=True)
        if s is not None
    ]
    if not known:
        return "None of them has a final evaluation yet."
    decimals = formatting.score_decimals([s for _, s in known])
    ranked = sorted(known, key=lambda pair: -pair[1].mean_return)
    first, best = ranked[0]
    value = formatting.fixed(best.mean_return, decimals)
    noun = f"mean {comparison.measure}"
    if len(known) == 1:
        return f"Only {first.label} has a final evaluation: {noun} {value}."
    if len(comparison.candidates) == 2:
        return _two(comparison, ranked[1][0].label, first.label, noun, decimals)
    several = f"Of the {len(known)} with a final evaluation"
    text = f"{several}, {first.label} has the highest {noun}, {value}"
    if first.label in comparison.untested:
        return f"{text}; that is not tested: {comparison.untested[first.label]}."
    words = verdict.decided(comparison.pairs, first.label)
    parts = [
        f"{word if word == 'undecided' else word + ' than'} "
        f"{'against ' if word == 'undecided' else ''}{_and(others)}"
        for word, others in sorted(words.items(), key=lambda item: item[0] == "undecided")
    ]
    if not parts:
        return f"{text}; too few runs to test that."
    return f"{text}: {', '.join(parts)}.{_remark(comparison, words.keys() - {'undecided'})}"


def _remark(comparison: Comparison, decided: Collection[str]) -> str:
    """Beside a decision: whether these runs would show a rare failure."""
    runs = [len(s.seeds) for s in comparison.scores if s and s.policy not in comparison.untested]
    return f" {remark(min(runs))}." if decided else ""


def _two(comparison: Comparison, low: str, high: str, noun: str, decimals: int) -> str:
    values = {
        s.policy: formatting.fixed(s.mean_return, decimals)
        for s in comparison.scores
        if s is not None
    }
    numbers = f"{noun} {values[high]} against {values[low]}"
    if not comparison.pairs:
        why = "; ".join(f"{label}: {reason}" for label, reason in comparison.untested.items())
        text = f"{high} has {numbers} of {low}, which is not tested ({why})."
        return text + _on_episodes(comparison)
    pair = comparison.pairs[0]
    if pair.word == "undecided":
        runs = [len(s.seeds) for s in comparison.scores if s is not None]
        text = f"It is undecided whether {high} or {low} is better: {numbers}, p = {pair.p_text}"
        if max(runs) <= 3:
            text += "; three runs each cannot decide it"
        return text + "." + _on_episodes(comparison)
    return f"{high} is {pair.word} than {low}: {numbers}, p = {pair.p_text}." + _remark(
        comparison, pair.word
    )


def _on_episodes(comparison: Comparison) -> str:
    if len(comparison.episode_pairs) != 1:
        return ""
    pair = comparison.episode_pairs[0]
    better, other = (pair.one, pair.other)
    if pair.word == "undecided":
        # Without a test of the trainings, nothing else is undecided.
        rest = "as well" if comparison.pairs else "which of these policies is better"
        return f" On the {pair.found.n} episodes that both played, it is undecided {rest}."
    if pair.word == "worse":
        better, other = other, better
    return (
        f" On the {pair.found.n} episodes that both played, these policies of {better} are better "
        f"than those of {other}; another training may come out otherwise. "
        f"{remark(pair.found.n, 'episodes')}."
    )


def _and(names: Sequence[str]) -> str:
    listed = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + f" and {listed[-1]}"
