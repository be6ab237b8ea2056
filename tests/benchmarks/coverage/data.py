"""Values with a known truth: what returns of trainings and of episodes look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr

Shape = tuple[int, ...]
SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 40, 50)


@dataclass(frozen=True)
class Kind:
    """A distribution.

    Attributes:
        name: In tables and in ``measured.json``.
        words: What it is.
        draw: Generator and shape to values.
        mean: Of it.
        bounded: Its values are of two kinds or between bounds: an interval may hold too often.
    """

    name: str
    words: str
    draw: Callable[[Generator, Shape], np.ndarray]
    mean: float
    bounded: bool = False


def _failing(share: float) -> Callable[[Generator, Shape], np.ndarray]:
    def draw(rng: Generator, shape: Shape) -> np.ndarray:
        return np.where(rng.random(shape) < share, 20.0, 100.0) + 5 * rng.normal(size=shape)

    return draw


def _kinds(share: float) -> Callable[[Generator, Shape], np.ndarray]:
    return lambda rng, shape: (rng.random(shape) < share).astype(float)


_A = (500 - 470) / 50
CAPPED = 470 * ndtr(_A) - 50 * math.exp(-_A * _A / 2) / math.sqrt(2 * math.pi) + 500 * ndtr(-_A)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("normal", "normal", lambda rng, s: rng.normal(10, 2, s), 10),
        Kind("uniform", "uniform", lambda rng, s: rng.random(s), 0.5, bounded=True),
        Kind("heavy tails", "Student's t, 3 degrees", lambda rng, s: rng.standard_t(3, s), 0),
        Kind("a little skewed", "gamma, shape 4", lambda rng, s: rng.gamma(4, size=s), 4),
        Kind("skewed", "exponential", lambda rng, s: rng.exponential(size=s), 1),
        Kind(
            "very skewed",
            "log-normal, sigma 1",
            lambda rng, s: rng.lognormal(0, 1, s),
            math.exp(0.5),
        ),
        Kind(
            "two groups",
            "two normal ones, ten deviations apart, one half each",
            lambda rng, s: rng.normal(size=s) + 10 * (rng.random(s) < 0.5),
            5,
        ),
        Kind("three in ten fail", "100 or 20, with a deviation of 5", _failing(0.3), 76),
        Kind("one in five fails", "100 or 20, with a deviation of 5", _failing(0.2), 84),
        # 150 deviations away: what an interval knows is whether a failure is in the data.
        Kind(
            "one in ten fails",
            "500 or 20, with a deviation of 3.2",
            lambda rng, s: np.where(rng.random(s) < 0.1, 20.0, 500.0) + 3.2 * rng.normal(size=s),
            452,
        ),
        Kind(
            "capped",
            "normal (470, 50), at most 500",
            lambda rng, s: np.minimum(500, rng.normal(470, 50, s)),
            CAPPED,
            bounded=True,
        ),
        Kind(
            "near its bound", "beta (5, 1)", lambda rng, s: rng.beta(5, 1, s), 5 / 6, bounded=True
        ),
        Kind("yes or no, half", "1 or 0", _kinds(0.5), 0.5, bounded=True),
        Kind("yes or no, a fifth", "1 or 0", _kinds(0.2), 0.2, bounded=True),
    )
}
"""All of them; the first is the one that every interval has to fit from three values on."""


@dataclass(frozen=True)
class Pair:
    """Two distributions with the same mean and different shapes.

    Attributes:
        name: In tables.
        one: The one that is skewed, or varies more.
        other: The steady one.
        mean: Of both.
    """

    name: str
    one: Callable[[Generator, Shape], np.ndarray]
    other: Callable[[Generator, Shape], np.ndarray]
    mean: float


def _collapsing(share: float, deviation: float = 3.2) -> Callable[[Generator, Shape], np.ndarray]:
    def draw(rng: Generator, shape: Shape) -> np.ndarray:
        return np.where(rng.random(shape) < share, 20, 500) + deviation * rng.normal(size=shape)

    return draw


def _normal(mean: float, deviation: float) -> Callable[[Generator, Shape], np.ndarray]:
    return lambda rng, shape: rng.normal(mean, deviation, shape)


PAIRS = (
    Pair("500, or 20 in one of 20; 476 ± 10", _collapsing(0.05), _normal(476, 10), 476),
    Pair("500, or 20 in one of 10; 452 ± 10", _collapsing(0.1), _normal(452, 10), 452),
    Pair("100, or 20 in one of 5; 84 ± 5", _failing(0.2), _normal(84, 5), 84),
    Pair(
        "log-normal; a tenth of the spread",
        KINDS["very skewed"].draw,
        _normal(math.exp(0.5), 0.2),
        math.exp(0.5),
    ),
    Pair("exponential; a tenth of the spread", KINDS["skewed"].draw, _normal(1, 0.1), 1),
    Pair("exponential; the same spread", KINDS["skewed"].draw, _normal(1, 1), 1),
    Pair("at most 500; normal, a tenth", KINDS["capped"].draw, _normal(CAPPED, 4), CAPPED),
    Pair(
        "near its bound; uniform",
        KINDS["near its bound"].draw,
        lambda rng, s: 5 / 6 + (rng.random(s) - 0.5) / 3,
        5 / 6,
    ),
    Pair("normal; a tenth of the spread", _normal(0, 1), _normal(0, 0.1), 0),
)
"""What is equal in the mean alone."""
