"""Many runs on many tasks as few numbers: aggregates with intervals.

The scores of an algorithm are *strata*: one sequence a task (a simulator), one score a run (a
seed) in it. Where every task has as many runs, the numbers are those of ``rliable`` (R. Agarwal
et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021); tasks with
unequal numbers of runs, which it has no answer for, weigh the same in mean, median and optimality
gap, and the interquartile mean is taken over all runs. The intervals are others than rliable's
percentiles of a bootstrap, which hold the truth too seldom for few runs:

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
from typing import Any

import numpy as np

from drillyard.statistics.intervals import MIN_VALUES, ends, freedom, student_t
from drillyard.statistics.shares import Strata, must_have_runs


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; None where so few runs say too little."""

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


def _iqm(strata: Sequence[Any]) -> Any:
    pooled = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def iqm_ends(strata: Sequence[Any], confidence: float = 0.95) -> tuple[Any, Any]:
    """Ends of the interval of an interquartile mean, for many data sets at once; NaN: none.

    Args:
        strata: An array each, whose last axis are the runs of the task.
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
        own = squares * kept / (kept - 1) / (total - 2 * cut) ** 2
        variance, spread = variance + own, spread + own**2 / (kept + 1)
        least, most = np.minimum(least, kept - 1), most + kept - 1
    known = (variance > 0) & all(np.shape(t)[-1] >= MIN_VALUES for t in strata)
    with np.errstate(all="ignore"):
        degrees = freedom(variance, spread, least, most)
        half = student_t((1 + confidence) / 2, degrees) * np.sqrt(variance)
    half = np.where(known, half, np.nan)
    centre = _iqm(strata)
    return centre - half, centre + half


def _mean(strata: Sequence[Any], _: float) -> Any:
    return np.mean([task.mean(axis=-1) for task in strata], axis=0)


def _median(strata: Sequence[Any], _: float) -> Any:
    return np.median([task.mean(axis=-1) for task in strata], axis=0)


def _gap(strata: Sequence[Any], target: float) -> Any:
    return target - _mean([np.minimum(task, target) for task in strata], target)


def _gap_ends(strata: Sequence[Any], target: float, confidence: float) -> tuple[Any, Any]:
    low, high = ends([np.minimum(task, target) for task in strata], confidence=confidence)
    return target - high, target - low


AGGREGATES: dict[str, Callable[[Sequence[Any], float], Any]] = {
    "iqm": lambda strata, _: _iqm(strata),
    "mean": _mean,
    "median": _median,
    "optimality_gap": _gap,
}
"""Name -> tasks' runs and target to the number."""
_ENDS: dict[str, Callable[[Sequence[Any], float, float], tuple[Any, Any]]] = {
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
        target: Score that is good enough: the gap is what is missing to it, more counts nothing.
        confidence: Of the intervals, 0 to 1.

    Raises:
        ValueError: There is no task, or one without a run.
    """
    must_have_runs(strata)
    own = [np.asarray(task, dtype=np.float64) for task in strata]
    found = {}
    for name, statistic in AGGREGATES.items():
        low, high = _ENDS[name](own, target, confidence) if name in _ENDS else (None, None)
        found[name] = Estimate(float(statistic(own, target)), _known(low), _known(high))
    return found


def _known(end: Any) -> float | None:
    return float(end) if end is not None and math.isfinite(end) else None
