"""Aggregates of many runs on many tasks, with intervals.

The scores of an algorithm are *strata*: one sequence for each task (a simulator), with one score
for each run (a seed). If every task has the same number of runs, the numbers are those of
``rliable`` (R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical
precipice", 2021). Tasks with different numbers of runs, which it does not support, have the same
weight in mean, median and optimality gap, and the interquartile mean is taken over all runs. The
intervals differ from rliable's bootstrap percentiles, which too seldom hold the truth for few
runs:

- Mean and optimality gap (a mean of what is missing): ``intervals.ends``.
- Interquartile mean: K. K. Yuen, "The two-sample trimmed t for unequal population variances",
  1974 (J. W. Tukey, D. H. McLaughlin 1963 for one sample): Student's t with the sum of squares of
  the Winsorized values. The tasks' sums of squares are added, as in ``intervals.ends``.
- The median of the tasks' means has none: which task it is changes from sample to sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from drillyard.statistics.intervals import MIN_VALUES, ends, freedom, student_t
from drillyard.statistics.shares import Strata, must_have_runs

Arrays: TypeAlias = Sequence[np.ndarray]
"""One array for each task, whose last axis is the runs."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; None if there are too few runs."""

    value: float
    low: float | None
    high: float | None


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean of the middle half, by ``rliable``'s rule.

    A quarter of the values, rounded down, is cut off at either end, as by
    ``scipy.stats.trim_mean``.

    Args:
        values: At least one.
    """
    return float(_iqm([np.asarray(values, dtype=np.float64)]))


def _iqm(strata: Arrays) -> np.ndarray:
    pooled = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    return np.asarray(pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1))


def iqm_ends(strata: Arrays, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of an interquartile mean, for many data sets; NaN without one.

    Args:
        strata: One array for each task, whose last axis is the runs.
        confidence: 0 to 1.
    """
    pooled = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    total = pooled.shape[-1]
    cut = total // 4
    bottom, top = pooled[..., cut, None], pooled[..., total - cut - 1, None]
    variance, spread, most = (np.zeros(pooled.shape[:-1]) for _ in range(3))
    least = np.full(pooled.shape[:-1], total)
    for task in map(np.asarray, strata):
        kept = np.maximum(((task >= bottom) & (task <= top)).sum(axis=-1), 2)
        clipped = np.clip(task, bottom, top)
        squares = ((clipped - clipped.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        part = squares * kept / (kept - 1) / (total - 2 * cut) ** 2
        variance, spread = variance + part, spread + part**2 / (kept + 1)
        least, most = np.minimum(least, kept - 1), most + kept - 1
    known = (variance > 0) & all(np.shape(t)[-1] >= MIN_VALUES for t in strata)
    with np.errstate(all="ignore"):
        degrees = freedom(variance, spread, least, most)
        half = student_t((1 + confidence) / 2, degrees) * np.sqrt(variance)
    half = np.where(known, half, np.nan)
    centre = _iqm(strata)
    return centre - half, centre + half


def _mean(strata: Arrays, _: float) -> np.ndarray:
    return np.asarray(np.mean([task.mean(axis=-1) for task in strata], axis=0))


def _median(strata: Arrays, _: float) -> np.ndarray:
    return np.asarray(np.median([task.mean(axis=-1) for task in strata], axis=0))


def _gap(strata: Arrays, target: float) -> np.ndarray:
    return target - _mean([np.minimum(task, target) for task in strata], target)


def _gap_ends(strata: Arrays, target: float, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = ends([np.minimum(task, target) for task in strata], confidence=confidence)
    return target - high, target - low


AGGREGATES: dict[str, Callable[[Arrays, float], np.ndarray]] = {
    "iqm": lambda strata, _: _iqm(strata),
    "mean": _mean,
    "median": _median,
    "optimality_gap": _gap,
}
"""Name -> function of the tasks' runs and the target."""
_ENDS: dict[str, Callable[[Arrays, float, float], tuple[np.ndarray, np.ndarray]]] = {
    "iqm": lambda strata, _, confidence: iqm_ends(strata, confidence),
    "mean": lambda strata, _, confidence: ends(strata, confidence=confidence),
    "optimality_gap": _gap_ends,
}


def aggregates(
    strata: Strata, *, target: float = 1.0, confidence: float = 0.95
) -> dict[str, Estimate]:
    """Interquartile mean, mean, median of the tasks' means, and optimality gap.

    Args:
        strata: The scores.
        target: Score that is good enough: the gap is the mean distance to it; a higher score does
            not count more.
        confidence: Level of the intervals, 0 to 1.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    must_have_runs(strata)
    runs = [np.asarray(task, dtype=np.float64) for task in strata]
    estimates = {}
    for name, statistic in AGGREGATES.items():
        low, high = _ENDS[name](runs, target, confidence) if name in _ENDS else (None, None)
        estimates[name] = Estimate(float(statistic(runs, target)), _known(low), _known(high))
    return estimates


def _known(end: np.ndarray | None) -> float | None:
    return float(end) if end is not None and math.isfinite(end) else None
