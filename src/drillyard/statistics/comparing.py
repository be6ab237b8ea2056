"""Two of a kind: how probable it is that one is better, and by how much on the same episodes.

Sources of the formulas:

- Probability of improvement, P(X > Y) averaged over tasks, ties one half: the Mann-Whitney U
  statistic divided by the number of pairs; R. Agarwal et al. 2021, section 4.3.
- Wilcoxon's signed-rank test of paired differences: F. Wilcoxon, "Individual comparisons by
  ranking methods", 1945.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from drillyard.statistics.intervals import percentiles, resample, t_interval
from drillyard.statistics.scores import Estimate, Strata

PAIR_RESAMPLES = 5_000


def probability_of_improvement(
    x: Strata, y: Strata, *, resamples: int = PAIR_RESAMPLES, seed: int = 0
) -> Estimate:
    """How probable it is that a run of one is better than a run of the other, over all tasks.

    Args:
        x: Scores of the one: task -> run.
        y: Scores of the other on the same tasks, in the same order; it may have other runs.
        resamples: Of the bootstrap; the runs of either are drawn independently.
        seed: Of the bootstrap.

    Raises:
        ValueError: The tasks are not the same number, or one has no run.
    """
    if len(x) != len(y) or not x or not all(len(task) for task in (*x, *y)):
        raise ValueError("both need at least one run of each task")
    own = [np.asarray(task, dtype=np.float64)[None, :] for task in (*x, *y)]
    drawn = list(resample([*x, *y], resamples, seed))
    low, high = percentiles(_better(drawn[: len(x)], drawn[len(x) :]))
    return Estimate(float(_better(own[: len(x)], own[len(x) :])[0]), float(low), float(high))


def _better(x: list[np.ndarray], y: list[np.ndarray]) -> np.ndarray:
    """One number a row: the mean over tasks of the share of pairs that x wins."""
    found = []
    for a, b in zip(x, y, strict=True):
        difference = np.sign(a[:, :, None] - b[:, None, :])
        found.append((difference.mean(axis=(1, 2)) + 1) / 2)
    return np.asarray(np.mean(found, axis=0))


@dataclass(frozen=True, slots=True)
class Paired:
    """One minus the other, pair by pair: on the same evaluation episodes, or the same seeds.

    Chance that both share (a hard start value, an easy one) falls out of the difference, so its
    interval is narrower than that of two separate means.
    """

    n: int
    difference: float
    """Mean of the differences."""
    low: float | None
    """95 % interval (Student's t over the pairs); None for a single pair."""
    high: float | None
    wins: int
    """Pairs in which the one is better."""
    ties: int
    p: float
    """Of Wilcoxon's signed-rank test, two-sided; 1 where nothing differs."""


def paired(x: Mapping[Hashable, float], y: Mapping[Hashable, float]) -> Paired | None:
    """Compare on what both have; None where they have nothing in common.

    Args:
        x: Key of a pair (an episode's seed and options, a training seed) -> value of the one.
        y: The same of the other.
    """
    both = [key for key in x if key in y]
    differences = [x[key] - y[key] for key in both]
    if not differences:
        return None
    interval = t_interval(differences)
    return Paired(
        n=len(differences), difference=math.fsum(differences) / len(differences),
        low=interval[0] if interval else None, high=interval[1] if interval else None,
        wins=sum(d > 0 for d in differences), ties=sum(d == 0 for d in differences),
        p=_wilcoxon(differences),
    )  # fmt: skip


def _wilcoxon(differences: list[float]) -> float:
    if not any(differences):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)
