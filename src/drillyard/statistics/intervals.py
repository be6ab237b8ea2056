"""How sure a score is: intervals over seeds, and over episodes.

Sources of the formulas:

- Student's t interval of a mean: mean ± t(0.975, n-1) s / √n, with s the sample's standard
  deviation (n-1). Any textbook; W. S. Gosset, "The probable error of a mean", 1908.
- Percentile bootstrap with resampling inside strata: B. Efron, R. Tibshirani, "An Introduction to
  the Bootstrap", 1993, chapters 8 and 13; strata as in R. Agarwal et al., "Deep reinforcement
  learning at the edge of the statistical precipice", 2021, section 4.
- Interquartile mean: the mean of what is left when a quarter of the values, rounded down, is
  cut off at either end; ibid., and the same rule as ``rliable`` and ``scipy.stats.trim_mean``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Method = Literal["seeds-t", "seeds-bootstrap", "episodes-t", "none"]

RESAMPLES = 10_000
MIN_SEEDS_T = 3
MIN_SEEDS_BOOTSTRAP = 5


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is.

    ``low`` and ``high`` bound a 95 % interval, or are None where there is none. ``label`` says in
    words what the interval is over: never show it without.
    """

    mean: float
    low: float | None
    high: float | None
    method: Method
    label: str
    n_seeds: int
    n_episodes: int
    minimum: float
    """Smallest value of a seed."""
    maximum: float
    """Largest value of a seed."""
    iqm: float
    values: tuple[float, ...] = ()
    """The mean of each seed, in the order given."""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "values": list(self.values)}


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of a mean; None for fewer than two values.

    Args:
        values: Independent measurements.
        confidence: 0 to 1.
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = student_t((1 + confidence) / 2, n - 1) * deviation / math.sqrt(n)
    return mean - half, mean + half


def student_t(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution.

    From ``scipy.special``: ``scipy.stats`` has the same number and takes 0.6 s to import.
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def stratified_bootstrap(
    strata: Sequence[Sequence[float]],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean over strata of each stratum's mean.

    Args:
        strata: The values of each stratum, one a seed. A stratum is a world with runs of its own;
            seeds are resampled inside each.
        confidence: 0 to 1.
        resamples: How many.
        seed: Of the resampling: the same data give the same interval.
    """
    means = sum(drawn.mean(axis=1) for drawn in resample(strata, resamples, seed)) / len(strata)
    low, high = percentiles(means, confidence)
    return float(low), float(high)


def resample(
    strata: Sequence[Sequence[float]], resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Each stratum drawn again with replacement from itself: (resamples, its size), one a stratum.

    Args:
        strata: The values of each stratum; none is empty.
        resamples: How many.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    for stratum in strata:
        values = np.asarray(stratum, dtype=np.float64)
        yield values[rng.integers(len(values), size=(resamples, len(values)))]


def percentiles(drawn: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Lower and upper end of a percentile interval; over the first axis of ``drawn``."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean of the middle half, by ``rliable``'s rule.

    Args:
        values: At least one.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def over_seeds(returns: Mapping[int, Sequence[float]]) -> Interval:
    """The mean return of an experiment, with the interval that its number of seeds allows.

    - Fewer than 3 seeds: the interval is over the episodes, and labelled so; values and range of
      the seeds are what speaks about training.
    - 3 or 4: Student's t over the means of the seeds.
    - From 5: stratified bootstrap over the seeds. One experiment is one stratum: a seed's policy
      plays all values of a lesson, so that seeds are resampled whole; resampling them inside each
      value as if they were independent there would make the interval too narrow.

    Args:
        returns: Seed -> return of each of its evaluation episodes; at least one of each.

    Raises:
        ValueError: There is nothing to average.
    """
    if not returns or not all(len(r) for r in returns.values()):
        raise ValueError("each seed needs at least one episode")
    values = tuple(math.fsum(r) / len(r) for r in returns.values())
    episodes = [float(v) for r in returns.values() for v in r]
    n = len(values)
    low_high: tuple[float, float] | None
    method: Method
    if n >= MIN_SEEDS_BOOTSTRAP:
        low_high = stratified_bootstrap([values])
        method, label = "seeds-bootstrap", f"95 % interval over {n} seeds (stratified bootstrap)"
    elif n >= MIN_SEEDS_T:
        low_high = t_interval(values)
        method, label = "seeds-t", f"95 % interval over {n} seeds (Student's t)"
    else:
        low_high = t_interval(episodes)
        word = "seed" if n == 1 else "seeds"
        method = "episodes-t" if low_high else "none"
        label = (
            f"95 % interval over {len(episodes)} episodes of {n} {word}, not over seeds"
            if low_high
            else "one episode: no interval"
        )
    low, high = low_high if low_high else (None, None)
    return Interval(
        mean=math.fsum(values) / n, low=low, high=high, method=method, label=label, n_seeds=n,
        n_episodes=len(episodes), minimum=min(values), maximum=max(values), iqm=iqm(values),
        values=values,
    )  # fmt: skip
