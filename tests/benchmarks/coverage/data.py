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
        Kind("one in ten fails", "100 or 20, with a deviation of 5", _failing(0.1), 92),
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
