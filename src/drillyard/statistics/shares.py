"""Shares: how many of the runs are above a score, with intervals that hold for any data.

Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
case of the binomial", 1934. The number of runs above a score is a sum of independent yes and no;
where the tasks differ it varies less than a binomial number with the same mean (W. Hoeffding, "On
the distribution of the number of successes in independent trials", 1956), so the interval holds
the truth at least as often as it says, and for few runs more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Strata = Sequence[Sequence[float]]
"""The scores of an algorithm: task -> run. No task is empty."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Share of runs above a score, for many scores; a point a threshold."""

    thresholds: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def share_ends(share: Any, n: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Lower and upper end of the interval of a share, for many at once.

    Args:
        share: That was seen, 0 to 1.
        n: Of how many; not whole where tasks have unequal numbers of runs.
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
    """How many runs of one task say as much as these runs of several tasks of the same weight."""
    return len(sizes) ** 2 / sum(1 / n for n in sizes)


def shares_above(strata: Sequence[Any], thresholds: Any) -> Any:
    """Mean over tasks of the share of runs above each threshold.

    Args:
        strata: An array each, whose last axis are the runs of the task.
        thresholds: At which to look; the last axis of what comes back.
    """
    at = np.asarray(thresholds, dtype=np.float64)
    return np.mean(
        [(np.asarray(task)[..., None, :] > at[:, None]).mean(axis=-1) for task in strata], axis=0
    )


def performance_profile(
    strata: Strata, thresholds: Sequence[float], confidence: float = 0.95
) -> Profile:
    """The share of runs with a score above each threshold, with an interval at each.

    Args:
        strata: The scores.
        thresholds: At which to look.
        confidence: At each of them, 0 to 1.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    must_have_runs(strata)
    own = shares_above(strata, thresholds)
    low, high = share_ends(own, effective([len(task) for task in strata]), confidence)
    return Profile(
        tuple(map(float, thresholds)),
        tuple(map(float, own)),
        tuple(map(float, low)),
        tuple(map(float, high)),
    )


def must_have_runs(strata: Sequence[Any]) -> None:
    """Refuse what has no task, or a task without a run.

    Raises:
        ValueError: It is so.
    """
    if not strata or not all(len(task) for task in strata):
        raise ValueError("each task needs at least one run")
