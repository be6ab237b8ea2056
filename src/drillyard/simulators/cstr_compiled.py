"""A step of n reactors, compiled by numba; the equations are in ``cstr_lanes``.

Interpreted array code needs 1.5 ms for the step of 64 copies: some hundred calls of numpy, as
many as the copy with the most difficult reaction needs. Compiled, each copy costs a fraction of a
microsecond.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from drillyard.simulators import cstr
from drillyard.simulators import cstr_physics as physics
from drillyard.simulators.cstr_lanes import ROWS, WIDTH, begin, compiled, end, move, trials

CR, TR, TC, CREF, CR_SEEN, TR_SEEN, TIME, SQUARES, CHANGE, BEGIN, NOISE, STEP_TIME, N_ITS = range(
    13
)
"""Columns of the state of all copies, (n, 13)."""

_LOW, _SPAN = physics.CR_LOW_CONVERSION, physics.CR_HIGH_CONVERSION - physics.CR_LOW_CONVERSION
_TRANSITION = physics.TRANSITION_TIME
_SCALE, _MAX_CHANGE = cstr.ACTION_SCALE_K, cstr.MAX_CHANGE_PER_TIME_K
_TR_LIMIT, _TC_LIMIT = cstr.TR_LIMIT_K, cstr.TC_LIMIT_K
_PENALTY, _EPISODE_TIME = cstr.TERMINATION_PENALTY, cstr.EPISODE_TIME


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
        done = min(max((row[TIME] - row[BEGIN]) / _TRANSITION, 0.0), 1.0)
        row[CREF] = _LOW + done * _SPAN
        row[TC] += row[CHANGE]
        row[TIME] += row[STEP_TIME]
        row[CR_SEEN], row[TR_SEEN] = row[CR] + noise[i, 0], row[TR] + noise[i, 1]
        error = row[CR_SEEN] - row[CREF]
        row[SQUARES] += error * error
        terminated[i] = (
            row[TR_SEEN] >= _TR_LIMIT
            or row[CR_SEEN] <= 0.0
            or abs(row[CHANGE]) > _MAX_CHANGE * row[STEP_TIME]
            or row[TC] < _TC_LIMIT
        )
        rewards[i] = math.exp(-abs(error)) + (_PENALTY if terminated[i] else 0.0)
        truncated[i] = row[TIME] > _EPISODE_TIME
    return rewards, terminated, truncated


@compiled
def _let_pass(at: np.ndarray, actions: np.ndarray, held: bool, block: np.ndarray) -> None:
    """Cr, Tr and the change of the coolant after a step of at most WIDTH copies."""
    m = len(at)
    copies, parts = np.arange(m), np.ones(m, np.int64)
    for i in range(m):
        row = at[i]
        change: Any = np.float64(actions[i, 0]) * _SCALE
        if change != change:
            change = 0.0
        cap = np.floor(_MAX_CHANGE * row[STEP_TIME])
        if abs(change) > cap:
            change = math.copysign(cap, change)
        row[CHANGE] = change
        begin(block, i, row[CR], row[TR], row[TC] + change, row[STEP_TIME] / row[N_ITS])
    while m:
        trials(block, m)
        i = 0
        while i < m:
            over, cr, tr = end(block, i)
            if not over:
                i += 1
                continue
            copy = copies[i]
            row = at[copy]
            if parts[copy] < row[N_ITS]:
                parts[copy] += 1
                tc = row[TC] + row[CHANGE] if held else row[TC]
                begin(block, i, cr, tr, tc, row[STEP_TIME] / row[N_ITS])
                i += 1
                continue
            row[CR], row[TR] = cr, tr
            m -= 1
            copies[i] = copies[m]
            move(block, m, i)
