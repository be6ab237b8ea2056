"""A step of n reactors, compiled by numba: the functions of ``cstr_physics``, called for each.

Interpreted array code needs 1.5 ms for the step of 64 copies: some hundred calls of numpy, as
many as the copy with the most difficult reaction needs. Compiled, each copy costs a microsecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from drillyard.simulators import cstr
from drillyard.simulators import cstr_physics as physics

CR, TR, TC, CREF, CR_SEEN, TR_SEEN, TIME, SQUARES, CHANGE, BEGIN, NOISE, STEP_TIME, N_ITS = range(
    13
)
"""Columns of the state of all copies, (n, 13)."""

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    # As in numpy, an overflow is an infinity.
    try:
        return cast(F, njit(cache=True, error_model="numpy")(function))
    except RuntimeError:  # no folder that may be written: compiled in each process anew
        return cast(F, njit(error_model="numpy")(function))


_trial, _growth = _compiled(physics.trial), _compiled(physics.growth)
_K0, _E_R = physics.K0, physics.E / physics.R
_FV = physics.F / physics.V
_COOL = physics.UA / (physics.RHO_CP * physics.V)
_HEAT = -physics.DH / physics.RHO_CP
_FEED, _CAF = physics.TF * _FV, physics.CAF
_TOLERANCE, _MIN_STEP = physics.TOLERANCE, physics.MIN_STEP
_LOW, _SPAN = physics.CR_LOW_CONVERSION, physics.CR_HIGH_CONVERSION - physics.CR_LOW_CONVERSION
_TRANSITION = physics.TRANSITION_TIME
_SCALE, _MAX_CHANGE = cstr.ACTION_SCALE_K, cstr.MAX_CHANGE_PER_TIME_K
_TR_LIMIT, _TC_LIMIT = cstr.TR_LIMIT_K, cstr.TC_LIMIT_K
_PENALTY, _EPISODE_TIME = cstr.TERMINATION_PENALTY, cstr.EPISODE_TIME


@_compiled
def _integrate(cr: float, tr: float, tc: float, duration: float) -> tuple[float, float]:
    """``cstr_physics.integrate``, but that an overflow is an infinity here."""
    k = _K0 * math.exp(-_E_R / tr)
    a = k * cr
    tc_cool = _FEED + _COOL * tc
    c1, t1 = _FV * (_CAF - cr) - a, tc_cool - (_FV + _COOL) * tr + _HEAT * a
    left, h = duration, min(duration, 0.25, 1.0 / (1.0 + k))
    while True:
        c, t, c7, t7, error = _trial(cr, tr, c1, t1, tc_cool, h)
        if not error < math.inf:
            h *= 0.1
            continue
        if error <= _TOLERANCE or h <= _MIN_STEP:
            left -= h
            cr, tr, c1, t1 = c, t, c7, t7
            if left <= 1e-12:
                return cr, tr
        h = min(left, h * _growth(error))


@_compiled
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
    for i in range(n):
        row = at[i]
        change: Any = np.float64(actions[i, 0]) * _SCALE
        if change != change:
            change = 0.0
        cap = np.floor(_MAX_CHANGE * row[STEP_TIME])
        if abs(change) > cap:
            change = math.copysign(cap, change)
        done = min(max((row[TIME] - row[BEGIN]) / _TRANSITION, 0.0), 1.0)
        row[CREF] = _LOW + done * _SPAN
        cr, tr, new_tc = row[CR], row[TR], row[TC] + change
        for interval in range(int(row[N_ITS])):
            tc = new_tc if held or interval == 0 else row[TC]
            cr, tr = _integrate(cr, tr, tc, row[STEP_TIME] / row[N_ITS])
        row[CR], row[TR], row[TC], row[CHANGE] = cr, tr, new_tc, change
        row[TIME] += row[STEP_TIME]
        row[CR_SEEN], row[TR_SEEN] = cr + noise[i, 0], tr + noise[i, 1]
        error = row[CR_SEEN] - row[CREF]
        row[SQUARES] += error * error
        terminated[i] = (
            row[TR_SEEN] >= _TR_LIMIT
            or row[CR_SEEN] <= 0.0
            or abs(change) > _MAX_CHANGE * row[STEP_TIME]
            or new_tc < _TC_LIMIT
        )
        rewards[i] = math.exp(-abs(error)) + (_PENALTY if terminated[i] else 0.0)
        truncated[i] = row[TIME] > _EPISODE_TIME
    return rewards, terminated, truncated
