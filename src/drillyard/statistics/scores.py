"""Many runs on many tasks as few numbers: aggregates and performance profiles, with intervals.

The scores of an algorithm are *strata*: one sequence a task (a simulator), one score a run (a
seed) in it. Where every task has as many runs, all numbers are those of ``rliable`` (R. Agarwal
et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021); tasks with
unequal numbers of runs, which it has no answer for, weigh the same in mean, median, optimality gap
and profile, and the interquartile mean is taken over all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drillyard.statistics.intervals import RESAMPLES, percentiles, resample

Strata = Sequence[Sequence[float]]
"""The scores of an algorithm: task -> run. No task is empty."""
PROFILE_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval (stratified bootstrap over the runs)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Profile:
    """Share of runs above a score, for many scores; a point a threshold."""

    thresholds: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def _iqm(drawn: list[np.ndarray], _: float) -> np.ndarray:
    pooled = np.sort(np.concatenate(drawn, axis=1), axis=1)
    cut = pooled.shape[1] // 4
    return np.asarray(pooled[:, cut : pooled.shape[1] - cut].mean(axis=1))


def _means(drawn: list[np.ndarray]) -> np.ndarray:
    return np.stack([task.mean(axis=1) for task in drawn])


def _mean(drawn: list[np.ndarray], _: float) -> np.ndarray:
    return np.asarray(_means(drawn).mean(axis=0))


def _median(drawn: list[np.ndarray], _: float) -> np.ndarray:
    return np.asarray(np.median(_means(drawn), axis=0))


def _gap(drawn: list[np.ndarray], target: float) -> np.ndarray:
    return np.asarray(target - _means([np.minimum(task, target) for task in drawn]).mean(axis=0))


AGGREGATES: dict[str, Callable[[list[np.ndarray], float], np.ndarray]] = {
    "iqm": _iqm, "mean": _mean, "median": _median, "optimality_gap": _gap,
}  # fmt: skip
"""Name -> rows of resampled runs, and the target, to one number a row."""


def aggregates(
    strata: Strata, *, target: float = 1.0, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Interquartile mean, mean, median of the tasks' means, and optimality gap.

    Args:
        strata: The scores.
        target: Score that is good enough: the gap is what is missing to it, more counts nothing.
        resamples: Of the bootstrap.
        seed: Of the bootstrap: the same data give the same interval.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    own = _rows(strata)
    drawn = list(resample(strata, resamples, seed))
    found = {}
    for name, statistic in AGGREGATES.items():
        low, high = percentiles(statistic(drawn, target))
        found[name] = Estimate(float(statistic(own, target)[0]), float(low), float(high))
    return found


def performance_profile(
    strata: Strata,
    thresholds: Sequence[float],
    *,
    resamples: int = PROFILE_RESAMPLES,
    seed: int = 0,
) -> Profile:
    """The share of runs with a score above each threshold, with a pointwise 95 % band.

    Args:
        strata: The scores.
        thresholds: At which to look.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: There is no task, or one without a run.
    """

    def shares(rows: list[np.ndarray]) -> np.ndarray:
        return np.stack(
            [np.mean([(task > at).mean(axis=1) for task in rows], axis=0) for at in thresholds],
            axis=1,
        )

    own = shares(_rows(strata))[0]
    low, high = percentiles(shares(list(resample(strata, resamples, seed))))
    return Profile(
        tuple(map(float, thresholds)), tuple(map(float, own)), tuple(map(float, low)),
        tuple(map(float, high)),
    )  # fmt: skip


def _rows(strata: Strata) -> list[np.ndarray]:
    """The scores themselves, as one row a task."""
    if not strata or not all(len(task) for task in strata):
        raise ValueError("each task needs at least one run")
    return [np.asarray(task, dtype=np.float64)[None, :] for task in strata]
