"""Which of several candidates is better, with an error of at most 5 % for a whole page.

The error is family-wise: the probability that at least one pair of equal candidates is called
"better", however many pairs there are. A pair is decided if two tests agree, because each is
valid where the other may fail:

- A permutation test of the largest difference (max-T) over all candidates: the runs of a task are
  dealt to the candidates again. It is exact for candidates that are all equal, for any
  distribution, and needs as many runs as an exact test: two candidates with three runs each
  remain undecided. If there are few ways of dealing, all are used, otherwise a fixed number of
  them is drawn. P. H. Westfall, S. S. Young, "Resampling-based multiple
  testing", 1993.
- Welch's t test of the pair with Šidák's correction for the number of pairs (A. C. Tamhane,
  "A comparison of procedures for multiple comparisons of means with unequal variances", 1979): it
  is valid for candidates with different variances, and if only some of them are equal. Two
  candidates whose runs do not vary are compared by the exact permutation test of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from drillyard.statistics.intervals import MIN_VALUES, stretch, student_t
from drillyard.statistics.shares import Strata

ERROR = 0.05
"""Maximum probability that a page calls equal candidates better."""
DEALT = 9_999
"""Number of ways of dealing that are drawn if there are more."""
_SAME = 1e-9
"""Differences within this relative tolerance count as equal, because of rounding."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for a pair.

    Attributes:
        difference: Mean score of the first minus that of the second.
        p: The larger p of the two tests, corrected for all pairs of the page.
        word: ``better``, ``worse`` or ``undecided``: the first compared with the second.
    """

    difference: float
    p: float
    word: str


def verdicts(
    candidates: Mapping[str, Strata], *, error: float = ERROR, dealt: int = DEALT, seed: int = 0
) -> dict[tuple[str, str], Verdict]:
    """Compare every candidate with every other one.

    Args:
        candidates: Name -> its scores, task -> run, on the same tasks; more is better.
        error: Probability of an error for equal candidates anywhere on the page.
        dealt: Number of ways of dealing that are drawn if there are too many.
        seed: Seed of the drawing: the same data give the same verdicts.

    Returns:
        (first, second) -> the result, for each pair in the order of the names; empty if a
        candidate has fewer than three runs of a task.
    """
    names = list(candidates)
    scores = [[np.asarray(task, dtype=np.float64) for task in candidates[n]] for n in names]
    if len(names) < 2 or any(len(task) < MIN_VALUES for runs in scores for task in runs):
        return {}
    means = np.array([np.mean([task.mean() for task in runs]) for runs in scores])
    pairs = list(combinations(range(len(names)), 2))
    p = np.maximum(_permuted(scores, pairs, dealt, seed), _welch(scores, pairs))
    results = {}
    for (i, j), pair_p in zip(pairs, p, strict=True):
        difference = float(means[i] - means[j])
        word = ("better" if difference > 0 else "worse") if pair_p <= error else "undecided"
        results[names[i], names[j]] = Verdict(difference, float(pair_p), word)
    return results


def places(
    names: Sequence[str], results: Mapping[tuple[str, str], Verdict]
) -> dict[str, tuple[int, int]]:
    """Name -> (best, last) place that is possible with the decided pairs.

    Args:
        names: All candidates.
        results: The result of ``verdicts``.
    """
    above = dict.fromkeys(names, 0)
    below = dict.fromkeys(names, 0)
    for (first, other), verdict in results.items():
        if verdict.word != "undecided":
            winner, loser = (first, other) if verdict.word == "better" else (other, first)
            above[loser] += 1
            below[winner] += 1
    return {name: (1 + above[name], len(names) - below[name]) for name in names}


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Welch's test.

    B. L. Welch, "The generalization of Student's problem when several different population
    variances are involved", 1947.

    Args:
        a: At least two values.
        b: At least two values.

    Returns:
        p. If neither varies, it is that of the exact permutation test: 1 for equal values,
        otherwise the share of the two ways of dealing that separate them.
    """
    scores = [[np.asarray(group, dtype=np.float64)] for group in (a, b)]
    return float(_welch_p(scores, [(0, 1)])[0])


@dataclass(frozen=True, slots=True)
class Fixed:
    """A policy that is not trained, for example a baseline in a simulator.

    Attributes:
        mean: Its mean return.
        error: Standard error of the mean over its episodes; 0 if its returns do not vary.
        episodes: Number of its episodes.
    """

    mean: float
    error: float
    episodes: int

    @classmethod
    def of(cls, mean: float, ends: Sequence[float] | None, episodes: int) -> Fixed:
        """From a mean and its 95 % interval over episodes; none: the returns do not vary.

        The longer side is taken: the other may be cut by the range of the return.
        """
        if ends is None:
            return cls(mean, 0.0, episodes)
        half = max(mean - ends[0], ends[1] - mean)
        return cls(mean, half / float(student_t(0.975, max(1, episodes - 1))), episodes)

    @property
    def moments(self) -> np.ndarray:
        """As of ``_moments``."""
        part = self.error**2
        return np.array([self.mean, part, part**2 / max(1, self.episodes - 1), 0.0])


def apart(one: Fixed, other: Fixed) -> float:
    """Two-sided p of two policies that are not trained: Welch's test."""
    if one.error + other.error == 0:
        return float(one.mean == other.mean)
    return float(_t_p(one.moments, other.moments))


def against(runs: Strata, fixed: Sequence[Fixed]) -> float:
    """Two-sided p of trained policies against one that is not trained: Welch's test.

    Without the permutation test: a training run cannot be exchanged for an episode.

    Args:
        runs: Scores of the trained ones: task -> run.
        fixed: The other in each of the tasks.
    """
    trained_moments = _moments([np.asarray(task, dtype=np.float64) for task in runs])
    other = np.sum([task.moments for task in fixed], axis=0)
    if trained_moments[1] + other[1] == 0:
        ways = [math.comb(len(r) + f.episodes, len(r)) for r, f in zip(runs, fixed, strict=True)]
        return 1.0 if trained_moments[0] == other[0] else min(1.0, 2 / math.prod(ways))
    return float(_t_p(trained_moments, other))


def _moments(runs: list[np.ndarray]) -> np.ndarray:
    """Value, variance, spread of the variance and third moment of the sum of the tasks' means."""
    rows = []
    for task in runs:
        n, varies = len(task), np.ptp(task) > 0
        part = task.var(ddof=1) / n if varies else 0.0
        third = ((task - task.mean()) ** 3).sum() / (n * (n - 1) * (n - 2)) if n > 2 else 0.0
        rows.append((task.mean(), part, part**2 / (n - 1), third if varies else 0.0))
    return np.asarray(np.sum(rows, axis=0))


def _t_p(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Welch's p of moments; t is as much smaller as the interval of a mean is stretched."""
    from scipy.special import stdtr

    gap, variance = one[..., 0] - other[..., 0], one[..., 1] + other[..., 1]
    with np.errstate(all="ignore"):
        degrees = variance**2 / (one[..., 2] + other[..., 2])
        skew = (one[..., 3] - other[..., 3]) / variance**1.5
        t = np.abs(gap) / np.sqrt(variance) / stretch(-np.sign(gap) * skew)
        return np.asarray(2 * stdtr(degrees, -t))


def _welch_p(scores: list[list[np.ndarray]], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    first, other = np.array(pairs).T
    moments = np.array([_moments(candidate) for candidate in scores])
    p = _t_p(moments[first], moments[other])
    for at in np.flatnonzero(moments[first, 1] + moments[other, 1] == 0):
        p[at] = _dealt_p(scores[first[at]], scores[other[at]])
    return p


def _dealt_p(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The share of the ways of dealing that separate two candidates whose runs do not vary."""
    ways = [
        math.comb(len(a) + len(b), len(a)) for a, b in zip(one, other, strict=True) if a[0] != b[0]
    ]
    return min(1.0, 2 / math.prod(ways)) if ways else 1.0


def _welch(scores: list[list[np.ndarray]], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Welch's p of each pair, corrected for all pairs by Šidák."""
    p = _welch_p(scores, pairs)
    return np.asarray(-np.expm1(len(pairs) * np.log1p(-np.minimum(p, 1 - 1e-16))))


def _permuted(
    scores: list[list[np.ndarray]], pairs: Sequence[tuple[int, int]], dealt: int, seed: int
) -> np.ndarray:
    """For each pair, the share of ways of dealing whose largest difference is as large."""
    left_of_pair, other = np.array(pairs).T
    # One statistic of each way of dealing: |difference| in pooled standard errors.
    means, spread = np.zeros((1, 1)), np.zeros((1, 1))
    exact = True
    for task, (groups, all_of_them) in enumerate(_deals(scores, dealt, seed)):
        sizes = np.array([len(candidate[task]) for candidate in scores])
        values = np.concatenate([candidate[task] for candidate in scores])
        values = values - values.mean()
        sums = np.add.reduceat(values[groups], np.cumsum(sizes) - sizes, axis=1)
        within = (values**2).sum() - (sums**2 / sizes).sum(axis=1)
        pooled = np.maximum(within, 0.0) / (len(values) - len(sizes))
        means = means + sums / sizes
        spread = spread + pooled[:, None] * (1 / sizes[left_of_pair] + 1 / sizes[other])
        exact = exact and all_of_them
    gaps = np.abs(means[:, left_of_pair] - means[:, other])
    tiny = _SAME * (np.abs(means).max() or 1.0)
    with np.errstate(all="ignore"):
        t = np.where(gaps <= tiny, 0.0, gaps / np.sqrt(np.maximum(spread, tiny**2)))
    largest = np.sort(t[1:].max(axis=1))
    as_large = len(largest) - np.searchsorted(largest, t[0] * (1 - _SAME))
    # The first row is the observed data: it is one of all ways, and is added to a sample.
    return np.asarray((as_large + (not exact)) / (len(largest) + (not exact)))


def _deals(
    scores: list[list[np.ndarray]], dealt: int, seed: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """For each task: the order of its runs in the observed data, then in each way of dealing."""
    sizes = [tuple(len(candidate[task]) for candidate in scores) for task in range(len(scores[0]))]
    ways = [_ways(of_task) for of_task in sizes]
    few = math.prod(ways) <= max(dealt, 1)
    rng = np.random.default_rng(seed)
    repeat, left = 1, math.prod(ways)
    for of_task, count in zip(sizes, ways, strict=True):
        first = np.arange(sum(of_task))[None, :]
        if few:
            left //= count
            listed = np.tile(np.repeat(_all_deals(of_task), left, axis=0), (repeat, 1))
            repeat *= count
            yield np.concatenate([first, listed]), True
        else:
            drawn = rng.permuted(np.tile(first, (dealt, 1)), axis=1)
            yield np.concatenate([first, drawn]), False


def _ways(sizes: tuple[int, ...]) -> int:
    return math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))


@lru_cache(maxsize=8)
def _all_deals(sizes: tuple[int, ...]) -> np.ndarray:
    """Every way of dealing the runs to candidates with these numbers of runs, as rows."""

    def deal(left: tuple[int, ...], rest: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not rest:
            yield ()
            return
        for chosen in combinations(left, rest[0]):
            others = tuple(x for x in left if x not in chosen)
            yield from ((*chosen, *more) for more in deal(others, rest[1:]))

    return np.array(list(deal(tuple(range(sum(sizes))), sizes)))
