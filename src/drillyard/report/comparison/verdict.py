"""Decides which of the compared is better, with an error of at most 5 % for the whole page.

Two questions have two tests:

- *Would another training come out in the same order?* The values of the training runs are
  compared, not paired: another training of the one has nothing in common with another training of
  the other. See ``drillyard.statistics.verdicts``.
- *Which of these policies is better on these episodes?* Both played the same evaluation episodes,
  so their returns are paired, episode by episode. This says nothing about another training.

What was chosen by its score is in neither: the best of many is the luckiest, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from drillyard import statistics as st
from drillyard.report.comparison.model import Candidate, EpisodePair
from drillyard.report.comparison.pairs import Pair, Places, compared
from drillyard.results.model import Interval, PolicyScore
from drillyard.results.policies import over_seeds
from drillyard.statistics.comparing import MIN_PAIRS

RETURN = "return on "
WORDS = {"better": "higher", "worse": "lower"}
"""More of a metric is not always better."""


def scores(candidates: Sequence[Candidate], measure: str) -> tuple[PolicyScore | None, ...]:
    """Mean and interval of each candidate; the intervals hold all at once.

    Args:
        candidates: The compared.
        measure: What is compared.
    """
    values = [list(c.measures.get(measure, {}).values()) for c in candidates]
    among = sum(len(v) >= st.MIN_VALUES for v in values)
    return tuple(
        _score(c, measure, among) if values_of else None
        for c, values_of in zip(candidates, values, strict=True)
    )


def _score(candidate: Candidate, measure: str, among: int) -> PolicyScore:
    seeds = dict(candidate.measures[measure])
    values = list(seeds.values())
    interval = None if candidate.chosen else over_seeds(values, among=among)
    if len(values) == 1 and not candidate.chosen and measure.startswith(RETURN):
        ends = st.mean_interval(list(candidate.episodes.values()))
        interval = Interval(*ends, "episodes", st.METHOD) if ends else None
    known = candidate.results.ranges.get(measure.removeprefix(RETURN))
    return PolicyScore(
        policy=candidate.label,
        baseline=False,
        mean_return=math.fsum(values) / len(values),
        interval=interval.cut(known) if interval else None,
        seeds=seeds,
        n_episodes=len(candidate.episodes) * len(values),
        std_return=None,
    )


def untested(candidates: Sequence[Candidate], measure: str) -> dict[str, str]:
    """Label -> why a candidate cannot be tested, for those that cannot."""
    reasons = {}
    for c in candidates:
        n = len(c.measures.get(measure, {}))
        if c.chosen:
            reasons[c.label] = c.chosen
        elif not n:
            reasons[c.label] = "no final evaluation yet"
        elif n < st.MIN_VALUES:
            reasons[c.label] = "one run" if n == 1 else "two runs"
    return reasons


def pairs(candidates: Sequence[Candidate], measure: str) -> tuple[tuple[Pair, ...], Places]:
    """Each with each over their trainings, and the places that follow.

    Args:
        candidates: The compared; those with fewer than three runs are left out.
        measure: What is compared.
    """
    left_out = untested(candidates, measure)
    groups = {
        c.label: [list(c.measures[measure].values())]
        for c in candidates
        if c.label not in left_out
    }
    names = sorted(groups, key=lambda name: -math.fsum(groups[name][0]) / len(groups[name][0]))
    decided_pairs, places = compared({name: groups[name] for name in names})
    named = (replace(pair, word=word(pair.word, measure)) for pair in decided_pairs)
    return tuple(named), places


def word(verdict: str, measure: str) -> str:
    """``better`` for a return; for a metric ``higher``, because less may be better."""
    return verdict if measure.startswith(RETURN) else WORDS.get(verdict, verdict)


def episode_pairs(candidates: Sequence[Candidate], measure: str) -> tuple[EpisodePair, ...]:
    """Each with each on the evaluation episodes that both played; returns alone are known so.

    A pair is decided as in ``drillyard.statistics.above``, at a level that is corrected for the
    number of pairs.
    """
    if not measure.startswith(RETURN):
        return ()
    able = [c for c in candidates if c.episodes and not c.chosen]
    able.sort(key=lambda c: -math.fsum(c.episodes.values()) / len(c.episodes))
    both = [(first, other) for first, other in combinations(able, 2) if _common(first, other)]
    level = st.together(len(both))
    result = []
    for first, other in both:
        paired = st.paired(first.episodes, other.episodes, level)
        assert paired is not None
        result.append(EpisodePair(first.label, other.label, paired, _decided(paired)))
    return tuple(result)


def _common(candidate: Candidate, other: Candidate) -> bool:
    return not candidate.episodes.keys().isdisjoint(other.episodes.keys())


def _decided(result: st.Paired) -> str:
    if result.n < MIN_PAIRS:
        return "undecided"
    low, high = result.low, result.high
    if low is None or high is None:  # all differences are equal
        low = high = result.difference
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def decided(pairs: Sequence[Pair], label: str) -> Mapping[str, list[str]]:
    """Word -> the others that a candidate is better, worse or undecided against."""
    result: dict[str, list[str]] = {}
    opposite = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
    for pair in pairs:
        if pair.one == label:
            result.setdefault(pair.word, []).append(pair.other)
        elif pair.other == label:
            result.setdefault(opposite.get(pair.word, pair.word), []).append(pair.one)
    return result
