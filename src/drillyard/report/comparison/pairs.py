"""Which of several is better: each with each, and each with what is not trained.

Everything that compares trainings asks this module: experiments beside each other, the algorithms
of a list, and the best trials of a search. At most 5 % of pages tell equal ones apart; where there
are baselines, a fifth of that is spent on them: see ``drillyard.statistics.verdicts``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drillyard import statistics as st
from drillyard.results import formatting
from drillyard.statistics.shares import Strata
from drillyard.system.tables import Grid, Table

OF_BASELINES = 0.2
"""Share of the page's allowed error that is spent on comparisons with baselines."""
METHOD = (
    "At most 5 % of such pages call anything better that is equal and fails as often, however "
    "many are compared: a pair is decided where a permutation test over all of them and Welch's "
    "test, both corrected for all pairs, agree; p is the larger of the two."
)
"""How a pair is decided, for readers of a page."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two of the compared, or one of them and a baseline.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        difference: Mean of the first minus mean of the second.
        p: Corrected for all pairs of the page; None for a baseline.
        improvement: Probability that a run of the first has a higher value than one of the other;
            above a baseline the share of runs.
        word: ``better`` or ``worse``, for a metric ``higher`` or ``lower``, or ``undecided``.
    """

    one: str
    other: str
    difference: float
    p: float | None
    improvement: st.Estimate
    word: str

    @property
    def p_text(self) -> str:
        """``0.012``."""
        return formatting.NOTHING if self.p is None else f"{self.p:.3f}"


Places = dict[str, tuple[int, int]]
"""Name -> (best, last) place that the decided pairs allow."""


def compared(
    groups: Mapping[str, Strata], baselines: Mapping[str, Sequence[st.Fixed]] | None = None
) -> tuple[tuple[Pair, ...], Places]:
    """Each pair, and the places that follow.

    Args:
        groups: Name -> its scores, task -> run, the best first; more is better.
        baselines: Name -> its score in each task.
    """
    baselines = baselines or {}
    verdicts = st.verdicts(groups, error=st.ERROR * (1 - OF_BASELINES if baselines else 1))
    besides = len(groups) * len(baselines)
    level = st.together(len(verdicts) + besides)
    pairs = [
        Pair(
            label,
            other,
            verdict.difference,
            verdict.p,
            st.probability_of_improvement(groups[label], groups[other], level),
            verdict.word,
        )
        for (label, other), verdict in verdicts.items()
    ]
    pairs += [
        _beside(name, groups[name], baseline, fixed, level, st.ERROR * OF_BASELINES / besides)
        for name in groups
        for baseline, fixed in baselines.items()
    ]
    return tuple(pairs), st.places(list(groups), verdicts) if verdicts else {}


def _beside(
    name: str,
    runs: Strata,
    baseline: str,
    fixed: Sequence[st.Fixed],
    level: float,
    error: float,
) -> Pair:
    """Runs beside a baseline, which is not trained: see ``drillyard.statistics.against``.

    Args:
        name: Whose runs.
        runs: The runs.
        baseline: Its name.
        fixed: The baseline in each task.
        level: Level of the interval of the share.
        error: Largest p that decides.
    """
    gaps = [[v - f.mean for v in task] for task, f in zip(runs, fixed, strict=True)]
    share = st.performance_profile(gaps, [0.0], level)
    difference = sum(sum(task) / len(task) for task in gaps) / len(gaps)
    enough = min(map(len, runs)) * len(runs) >= formatting.DECIDES
    word = "undecided"
    if enough and st.against(runs, fixed) <= error:
        word = "better" if difference > 0 else "worse"
    improvement = st.Estimate(share.share[0], share.low[0], share.high[0])
    return Pair(name, baseline, difference, None, improvement, word)


def pairs_grid(pairs: Sequence[Pair]) -> Grid:
    """A line for each pair."""
    decimals = formatting.shared_decimals(pair.difference for pair in pairs)
    table = Table("pairs", pairs)
    table.text("this", lambda pair: pair.one)
    table.text("compared with", lambda pair: pair.other)
    table.number("difference", lambda pair: formatting.fixed(pair.difference, decimals))
    table.number("p", lambda pair: pair.p_text)
    table.number("probability of improvement", lambda pair: f"{pair.improvement.value:.2f}")
    table.number(
        "95 %, all at once",
        lambda pair: formatting.ends(pair.improvement.low, pair.improvement.high, 2),
    )
    return table.text("so it is", lambda pair: pair.word)
