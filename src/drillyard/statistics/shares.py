"""Shares: how many of the runs are above a score, with intervals that hold for any data.

Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
case of the binomial", 1934. The number of runs above a score is a sum of independent yes and no;
if the tasks differ, it varies less than a binomial number with the same mean (W. Hoeffding, "On
the distribution of the number of successes in independent trials", 1956), so the interval holds
the truth at least as often as its level, and more often for few runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Strata: TypeAlias = Sequence[Sequence[float]]
"""The scores of an algorithm: task -> run. No task is empty."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Share of runs above a score, for many scores; one point for each threshold."""

    thresholds: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def share_ends(
    share: ArrayLike, n: float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the interval of a share, for many shares together.

    Args:
        share: The observed share, 0 to 1.
        n: Number of runs; not a whole number if tasks have different numbers of runs.
        confidence: 0 to 1.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    yes = np.asarray(share, dtype=np.float64) * n
    no = n - yes
    low = np.where(yes <= 0, 0.0, betaincinv(np.maximum(yes, 1e-9), no + 1, tail))
    high = np.where(no <= 0, 1.0, betaincinv(yes + 1, np.maximum(no, 1e-9), 1 - tail))
    return low, high


def effective(sizes: Sequence[int]) -> float:
    """Number of runs of one task with the same information as these runs of several tasks."""
    return len(sizes) ** 2 / sum(1 / n for n in sizes)


def shares_above(strata: Sequence[ArrayLike], thresholds: ArrayLike) -> np.ndarray:
    """Mean over tasks of the share of runs above each threshold.

    Args:
        strata: One array for each task, whose last axis is the runs.
        thresholds: The thresholds; the last axis of the result.
    """
    at = np.asarray(thresholds, dtype=np.float64)
    above = [(np.asarray(task)[..., None, :] > at[:, None]).mean(axis=-1) for task in strata]
    return np.asarray(np.mean(above, axis=0))


def performance_profile(
    strata: Strata, thresholds: Sequence[float], confidence: float = 0.95
) -> Profile:
    """The share of runs with a score above each threshold, with an interval at each.

    Args:
        strata: The scores.
        thresholds: The thresholds.
        confidence: Level of each interval, 0 to 1.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    must_have_runs(strata)
    shares = shares_above(strata, thresholds)
    low, high = share_ends(shares, effective([len(task) for task in strata]), confidence)
    return Profile(
        tuple(map(float, thresholds)),
        tuple(map(float, shares)),
        tuple(map(float, low)),
        tuple(map(float, high)),
    )


def must_have_runs(strata: Sequence[Sequence[float]]) -> None:
    """Refuse scores without a task, or with a task without a run.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    if not strata or not all(len(task) for task in strata):
        raise ValueError("each task needs at least one run")
