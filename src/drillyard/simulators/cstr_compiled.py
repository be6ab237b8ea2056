"""A step of n reactors, compiled by numba.

``cstr_physics.integrate``, but that one pass over the copies makes the next trial step of all of
them. Their numbers lie in rows at constant distances in one flat array, and nothing in the pass
branches or calls a library: so the compiler lets one instruction work on four or eight copies.
Each copy has a step size of its own, leaves when its time is over, and the last one takes its
place.

The equations are those of ``cstr_physics``, compiled. Numba keeps compiled functions by the time
stamp of their own file and by their name, so the name contains a hash of the equations' file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from numba import njit

from drillyard.simulators import cstr_physics as physics

CR, TR, TC, CREF, CR_SEEN, TR_SEEN, TIME, SQUARES, CHANGE, BEGIN, NOISE, STEP_TIME, N_ITS = range(
    13
)
"""Columns of the state of all copies, (n, 13)."""

WIDTH = 64
"""Copies in a block."""
_CR, _TR, _C1, _T1, _COOLED, _H, _LEFT = (np.uint64(row * WIDTH) for row in range(7))
"""Where the rows of a block begin. Unsigned: a negative index would have to be looked for."""
ROWS = 7

P = ParamSpec("P")
R = TypeVar("R")


_EQUATIONS = hashlib.sha256(Path(physics.__file__).read_bytes()).hexdigest()[:8]
_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiled at the first call, and kept in a file; as in numpy, an overflow is an infinity."""
    jitted: Callable[P, R]
    function.__qualname__ += f"-{_EQUATIONS}"
    try:
        jitted = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that may be written: compiled in each process anew
        jitted = njit(**_OPTIONS)(function)
    return jitted


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Compiled with each function that calls it, and kept with that one."""
    jitted: Callable[P, R] = njit(**_OPTIONS)(function)
    return jitted


_K0, _E_R = physics.K0, physics.E / physics.R
_FV, _COOL = physics.F / physics.V, physics.UA / (physics.RHO_CP * physics.V)
_HEAT, _LOSS = -physics.DH / physics.RHO_CP, physics.F / physics.V + _COOL
_FEED, _CAF = physics.TF * _FV, physics.CAF
_TOLERANCE, _MIN_STEP = physics.TOLERANCE, physics.MIN_STEP

_SCALE, _MAX_CHANGE = physics.ACTION_SCALE_K, physics.MAX_CHANGE_PER_TIME_K
_EPISODE_TIME = physics.EPISODE_TIME

_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0
"""1.5 * 2**52: added to a number, its integer part is in the last bits."""
_BIAS = 1023 << 52
_2_52, _2_52_BITS, _2_40 = 4503599627370496.0, 0x433 << 52, 1099511627776.0
_ROOT = (1.2 * 1023.0 - 0.058) * _2_40 + _2_52
_TAYLOR = tuple(1.0 / math.factorial(k) for k in range(13))


@compiled
def exp(x: float) -> float:
    """``math.exp`` to 2 units in the last place, without a branch.

    x = k ln 2 + r, where 2**k is an exponent's bits and exp(r) Taylor's polynomial of order 12,
    which |r| < 0.35 leaves 2e-16 from the truth.

    Args:
        x: Above 709.4 the result is infinite, as it is for NaN; below -708 it is that of -708.
    """
    limited = min(max(x, -708.0), 710.0) if x == x else 710.0
    shifted = limited * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (limited - k * _LN2_HIGH) - k * _LN2_LOW
    scale = np.int64((np.float64(shifted).view(np.int64) << 52) + _BIAS).view(np.float64)
    t, r2 = _TAYLOR, r * r
    r4 = r2 * r2
    low = (1.0 + r) + (t[2] + t[3] * r) * r2 + ((t[4] + t[5] * r) + (t[6] + t[7] * r) * r2) * r4
    high = (t[8] + t[9] * r) + (t[10] + t[11] * r) * r2 + t[12] * r4
    return (low + high * (r4 * r4)) * scale


_trial = inline(physics.computed_with(physics.trial, exp=exp))
_outcome = inline(physics.outcome)
_reference_at = inline(physics.computed_with(physics.reference_at, clip=inline(physics.clip)))


@compiled
def growth(error: float) -> float:
    """``cstr_physics.growth`` without a branch or a power.

    The inverse fifth root: first from the bits of the exponent, right to 3 %, then four of
    Newton's steps, each of which doubles the digits.
    """
    x = min(max(error / _TOLERANCE, 1e-4), 1e4)  # beyond, the factor is at its bounds
    # The bits of a float are nearly its logarithm; as an integer in the mantissa of another one
    # they can be computed with.
    log2 = np.int64((np.float64(x).view(np.int64) >> 12) | _2_52_BITS).view(np.float64) - _2_52
    y = np.int64(np.float64(_ROOT - 0.2 * log2).view(np.int64) << 12).view(np.float64)
    for _ in range(4):
        y2 = y * y
        y = y * (1.2 - 0.2 * x * (y2 * y2 * y))
    return min(max(0.9 * y, 0.2), 5.0)


@compiled
def _begin(block: np.ndarray, i: int, cr: float, tr: float, tc: float, duration: float) -> None:
    """Copies the state of a copy to a column of the block.

    Args:
        block: (ROWS * WIDTH,) float64.
        i: The place.
        cr: Concentration (kmol/m3).
        tr: Temperature (K).
        tc: Coolant (K).
        duration: Time units to pass.
    """
    j = np.uint64(i)
    k = _K0 * exp(-_E_R / tr)
    cooled = _FEED + _COOL * tc
    block[_CR + j], block[_TR + j], block[_COOLED + j] = cr, tr, cooled
    block[_C1 + j] = _FV * (_CAF - cr) - k * cr
    block[_T1 + j] = cooled - _LOSS * tr + _HEAT * (k * cr)
    block[_LEFT + j] = duration
    block[_H + j] = min(duration, min(0.25, 1.0 / (1.0 + k)))


@compiled
def _end(block: np.ndarray, i: int) -> tuple[bool, float, float]:
    """Whether the time of a place is over, and its concentration and temperature."""
    j = np.uint64(i)
    return block[_LEFT + j] <= 1e-12, block[_CR + j], block[_TR + j]


@compiled
def _move(block: np.ndarray, source: int, target: int) -> None:
    """What is in a place goes into another one."""
    for row in range(ROWS):
        block[row * WIDTH + target] = block[row * WIDTH + source]


@compiled
def _trials(block: np.ndarray, m: int) -> None:
    """The next trial step of the first m places, see ``cstr_physics.integrate`` and ``trial``."""
    for i in range(m):
        j = np.uint64(i)
        cr, tr, c1, t1 = block[_CR + j], block[_TR + j], block[_C1 + j], block[_T1 + j]
        cooled, h, left = block[_COOLED + j], block[_H + j], block[_LEFT + j]
        c, t, c7, t7, off_c, off_t = _trial(cr, tr, c1, t1, cooled, h)
        error_c, error_t = h / 10.0 * off_c, h / 100.0 * off_t
        error = max(error_c, error_t)
        # The first trial of an ignition may leave the range of numbers: then a much shorter one.
        sound = (error_c < math.inf) & (error_t < math.inf)
        taken = sound & ((error <= _TOLERANCE) | (h <= _MIN_STEP))
        left = left - h if taken else left
        block[_CR + j], block[_TR + j] = c if taken else cr, t if taken else tr
        block[_C1 + j], block[_T1 + j] = c7 if taken else c1, t7 if taken else t1
        block[_LEFT + j] = left
        block[_H + j] = min(left, h * growth(error)) if sound else h * 0.1


@compiled
def observe(at: np.ndarray) -> np.ndarray:
    """What the agent sees of all copies, (n, 4) float32; see ``CstrEnv``.

    Args:
        at: (n, 13) float64, see above.
    """
    seen = np.empty((len(at), 4), np.float32)
    for i in range(len(at)):
        seen[i, 0] = min(max(at[i, TR_SEEN] / 600.0, -1.0), 1.0)
        seen[i, 1] = min(max(at[i, CR_SEEN] / 10.0, -1.0), 1.0)
        seen[i, 2] = min(max(at[i, CREF] / 10.0, -1.0), 1.0)
        seen[i, 3] = min(max(at[i, TC] / 600.0, -1.0), 1.0)
    return seen


@compiled
def step(
    at: np.ndarray, actions: np.ndarray, noise: np.ndarray, held: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step all copies; ``at`` is changed.

    Args:
        at: (n, 13) float64, see above.
        actions: (n, 1) float32, in 10 K.
        noise: (n, 2) float64, what is added to Cr (kmol/m3) and Tr (K) in the measurement.
        held: The new coolant acts in the whole step.

    Returns:
        Rewards (n,) float64, terminated (n,) bool, truncated (n,) bool.
    """
    n = len(at)
    rewards, terminated = np.empty(n), np.empty(n, np.bool_)
    truncated = np.empty(n, np.bool_)
    block = np.ones(ROWS * WIDTH)
    for first in range(0, n, WIDTH):
        _let_pass(at[first : first + WIDTH], actions[first : first + WIDTH], held, block)
    for i in range(n):
        row = at[i]
        row[CREF] = _reference_at(row[TIME], row[BEGIN])
        row[TC] += row[CHANGE]
        row[TIME] += row[STEP_TIME]
        row[CR_SEEN], row[TR_SEEN] = row[CR] + noise[i, 0], row[TR] + noise[i, 1]
        error = row[CR_SEEN] - row[CREF]
        row[SQUARES] += error * error
        rewards[i], terminated[i] = _outcome(
            row[CR_SEEN],
            row[TR_SEEN],
            row[CREF],
            row[TC],
            row[CHANGE],
            row[STEP_TIME],
        )
        truncated[i] = row[TIME] > _EPISODE_TIME
    return rewards, terminated, truncated


@compiled
def _let_pass(at: np.ndarray, actions: np.ndarray, held: bool, block: np.ndarray) -> None:
    """Cr, Tr and the change of the coolant after a step of at most WIDTH copies."""
    m = len(at)
    copies, parts = np.arange(m), np.ones(m, np.int64)
    for i in range(m):
        row = at[i]
        change: float = np.float64(actions[i, 0]) * _SCALE
        if change != change:
            change = 0.0
        cap = np.floor(_MAX_CHANGE * row[STEP_TIME])
        if abs(change) > cap:
            change = math.copysign(cap, change)
        row[CHANGE] = change
        _begin(block, i, row[CR], row[TR], row[TC] + change, row[STEP_TIME] / row[N_ITS])
    while m:
        _trials(block, m)
        i = 0
        while i < m:
            over, cr, tr = _end(block, i)
            if not over:
                i += 1
                continue
            copy = copies[i]
            row = at[copy]
            if parts[copy] < row[N_ITS]:
                parts[copy] += 1
                tc = row[TC] + row[CHANGE] if held else row[TC]
                _begin(block, i, cr, tr, tc, row[STEP_TIME] / row[N_ITS])
                i += 1
                continue
            row[CR], row[TR] = cr, tr
            m -= 1
            copies[i] = copies[m]
            _move(block, m, i)
