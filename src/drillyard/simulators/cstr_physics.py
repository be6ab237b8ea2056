"""The reactor's equations, references, rewards, and a fast exact solution of a step.

All ways to step it use what is here: Python (``cstr``), numba (``cstr_compiled``) and JAX
(``functional.cstr``). ``trial``, ``outcome`` and ``reference_at`` call ``exp`` and ``clip`` by
their names here, and ``computed_with`` gives a copy of a function that calls others. They are
written for floats; arrays of JAX go through the same arithmetic.

Cr is a concentration (kmol/m3), Tr and Tc are temperatures (K); rates are per time unit.

    r      = k0 exp(-E / (R Tr)) Cr
    dCr/dt = F/V (Caf - Cr) - r
    dTr/dt = F/V (Tf - Tr) - dH/rhoCp r - UA/(rhoCp V) (Tr - Tc)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import exp
from types import FunctionType
from typing import ParamSpec, TypeVar

P_ = ParamSpec("P_")
R_ = TypeVar("R_")

F = 1.0
"""Feed (m3/h)."""
V = 1.0
"""Volume (m3)."""
K0 = 34_930_800.0
"""Rate constant (1/h)."""
E = 11_843.0
"""Activation energy (kcal/kmol)."""
R = 1.98588
"""Gas constant (kcal/(kmol K))."""
DH = -5_960.0
"""Heat of reaction (kcal/kmol)."""
RHO_CP = 500.0
"""Density times heat capacity (kcal/(m3 K))."""
UA = 150.0
"""Heat transfer (kcal/(K h))."""
CAF = 10.0
"""Concentration of the feed (kmol/m3)."""
TF = 298.2
"""Temperature of the feed (K)."""

CR_LOW_CONVERSION, TR_LOW_CONVERSION = 8.5698, 311.2612
CR_HIGH_CONVERSION, TR_HIGH_CONVERSION = 2.0, 373.1311
TRANSITION_TIME = 26.0
BEGIN = {2: 20.0, 3: 40.0, 4: 60.0}

NEVER = 1e9
"""The time of a transition that does not come; less this: one that was over long ago."""

EPISODE_TIME = 90.0
"""The episode is truncated once the time has passed this: 91 steps of 1."""
MAX_CHANGE_PER_TIME_K = 10.0
ACTION_SCALE_K = 10.0
TERMINATION_PENALTY = -10.0
TR_LIMIT_K = 400.0
TC_LIMIT_K = 50.0
TC_START_K = 292.0
TC_START_HIGH_K = 305.0348

_E_R = E / R
_FV = F / V
_HEAT = -DH / RHO_CP
_COOL = UA / (RHO_CP * V)
_SPAN = CR_HIGH_CONVERSION - CR_LOW_CONVERSION
TOLERANCE = 3e-9
MIN_STEP = 1e-9


def reference(signal: int, time: float, transition_start: float = 1.0) -> tuple[float, float]:
    """Concentration and temperature that the reactor should have.

    | signal  | reference                                                                  |
    |---------|----------------------------------------------------------------------------|
    | 0, 6    | stays at high conversion (2, 373.1311)                                     |
    | 1       | transition from time ``transition_start - 1`` on: at once by default       |
    | 2, 3, 4 | low conversion (8.5698, 311.2612), transition from time 20, 40, 60 on      |
    | 5       | stays at low conversion                                                    |

    A transition is linear and takes 26 time units.

    Args:
        signal: 0 to 6.
        time: Time units since the episode's beginning.
        transition_start: For signal 1, on a clock that is 1 ahead.

    Returns:
        (Cr in kmol/m3, Tr in K).
    """
    if signal in (0, 6):
        return CR_HIGH_CONVERSION, TR_HIGH_CONVERSION
    if signal == 5:
        return CR_LOW_CONVERSION, TR_LOW_CONVERSION
    begin = transition_start - 1.0 if signal == 1 else BEGIN[signal]
    done = min(max((time - begin) / TRANSITION_TIME, 0.0), 1.0)
    return (
        CR_LOW_CONVERSION + done * (CR_HIGH_CONVERSION - CR_LOW_CONVERSION),
        TR_LOW_CONVERSION + done * (TR_HIGH_CONVERSION - TR_LOW_CONVERSION),
    )


def coolant_at_first(signal: int) -> float:
    """Temperature of the coolant (K) with which an episode begins."""
    return TC_START_HIGH_K if signal == 6 else TC_START_K


def clip(value: float, low: float, high: float) -> float:
    """The value, or the end of the range that it is beyond."""
    return min(max(value, low), high)


def computed_with(function: Callable[P_, R_], **others: Callable[..., object]) -> Callable[P_, R_]:
    """A copy of a function of this module that calls other functions.

    Args:
        function: ``trial``, ``outcome`` or ``reference_at``.
        **others: For ``exp`` and ``clip``.
    """
    assert isinstance(function, FunctionType)
    copied: Callable[P_, R_] = FunctionType(
        function.__code__, {**function.__globals__, **others}, function.__name__
    )
    return copied


def transition(signal: int, transition_start: float) -> float:
    """The time at which a reference begins to change, for ``reference_at``."""
    if signal == 1:
        return transition_start - 1.0
    return BEGIN.get(signal, NEVER if signal == 5 else -NEVER)


def reference_at(time: float, begin: float) -> float:
    """The concentration of ``reference`` for the result of ``transition``.

    Args:
        time: Time units since the episode's beginning.
        begin: The time at which it begins to change.
    """
    done = clip((time - begin) / TRANSITION_TIME, 0.0, 1.0)
    return CR_LOW_CONVERSION + done * _SPAN


def outcome(
    cr: float,
    tr: float,
    cref: float,
    tc: float,
    change: float,
    step_time: float,
) -> tuple[float, bool]:
    """Reward and termination of a step.

    Args:
        cr: Measured concentration (kmol/m3).
        tr: Measured temperature (K).
        cref: Concentration that the reactor should have.
        tc: Coolant (K).
        change: What the agent changed it by (K).
        step_time: Time units of a step.
    """
    terminated = (
        (tr >= TR_LIMIT_K)
        | (cr <= 0.0)
        | (abs(change) > MAX_CHANGE_PER_TIME_K * step_time)
        | (tc < TC_LIMIT_K)
    )
    return exp(-abs(cr - cref)) + TERMINATION_PENALTY * terminated, terminated


def derivatives(cr: float, tr: float, tc: float) -> tuple[float, float]:
    """(dCr/dt, dTr/dt), the equations above; for tests and other solvers."""
    rate = K0 * math.exp(-_E_R / tr) * cr
    return _FV * (CAF - cr) - rate, _FV * (TF - tr) + _HEAT * rate - _COOL * (tr - tc)


def integrate(cr: float, tr: float, tc: float, duration: float) -> tuple[float, float]:
    """Let time pass under a constant coolant temperature.

    Dormand and Prince's pair of orders 5 and 4 with its own step size. A fixed step that holds
    1e-6 through an ignition (rates of 30 per time unit) needs ten times the evaluations of a calm
    step; here they are spent only where they are needed. Nothing is kept between calls, so a
    resume needs no state of the solver.

    Args:
        cr: Concentration (kmol/m3).
        tr: Temperature (K).
        tc: Coolant (K).
        duration: Time units.

    Returns:
        (Cr, Tr) afterwards, within 1e-6 of ``scipy.integrate.odeint`` at tight tolerances.
    """
    tc_cool = TF * _FV + _COOL * tc
    loss = _FV + _COOL
    k = K0 * math.exp(-_E_R / tr)
    a = k * cr
    c1, t1 = _FV * (CAF - cr) - a, tc_cool - loss * tr + _HEAT * a
    left, h = duration, min(duration, 0.25, 1.0 / (1.0 + k))
    while True:
        try:
            c, t, c7, t7, off_c, off_t = trial(cr, tr, c1, t1, tc_cool, h)
            error = h * max(off_c / 10.0, off_t / 100.0)
        except (OverflowError, ZeroDivisionError):
            error = math.inf
        # The first trial of an ignition may leave the range of numbers: try a much shorter one.
        if not error < math.inf:
            h *= 0.1
            continue
        if error <= TOLERANCE or h <= MIN_STEP:
            left -= h
            cr, tr, c1, t1 = c, t, c7, t7
            if left <= 1e-12:
                return cr, tr
        h = min(left, h * growth(error))


def growth(error: float) -> float:
    """Factor of the next step size after a trial with this error."""
    factor = 0.9 * (TOLERANCE / error) ** 0.2 if error > 0.0 else 5.0
    return min(max(factor, 0.2), 5.0)


def trial(
    cr: float, tr: float, c1: float, t1: float, tc_cool: float, h: float
) -> tuple[float, float, float, float, float, float]:
    """One step of size h, accepted or not. Arithmetic alone, so that it can be compiled too.

    Args:
        cr: Concentration (kmol/m3).
        tr: Temperature (K).
        c1: dCr/dt there.
        t1: dTr/dt there.
        tc_cool: What coolant and feed bring (K per time unit).
        h: Time units.

    Returns:
        Cr and Tr afterwards, their derivatives, and how far the two orders are apart a time unit,
        in Cr and in Tr. The relative error is h times the larger of the first a 10th and the
        second a 100th, which are the sizes of Cr and Tr.

    Raises:
        OverflowError, ZeroDivisionError: It left the range of numbers.
    """
    loss = _FV + _COOL
    c = cr + h * 0.2 * c1
    t = tr + h * 0.2 * t1
    a = K0 * exp(-_E_R / t) * c
    c2, t2 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    c = cr + h * (0.075 * c1 + 0.225 * c2)
    t = tr + h * (0.075 * t1 + 0.225 * t2)
    a = K0 * exp(-_E_R / t) * c
    c3, t3 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    c = cr + h * (44 / 45 * c1 - 56 / 15 * c2 + 32 / 9 * c3)
    t = tr + h * (44 / 45 * t1 - 56 / 15 * t2 + 32 / 9 * t3)
    a = K0 * exp(-_E_R / t) * c
    c4, t4 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    c = cr + h * (19372 / 6561 * c1 - 25360 / 2187 * c2 + 64448 / 6561 * c3 - 212 / 729 * c4)
    t = tr + h * (19372 / 6561 * t1 - 25360 / 2187 * t2 + 64448 / 6561 * t3 - 212 / 729 * t4)
    a = K0 * exp(-_E_R / t) * c
    c5, t5 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    c = cr + h * (
        9017 / 3168 * c1 - 355 / 33 * c2 + 46732 / 5247 * c3 + 49 / 176 * c4 - 5103 / 18656 * c5
    )
    t = tr + h * (
        9017 / 3168 * t1 - 355 / 33 * t2 + 46732 / 5247 * t3 + 49 / 176 * t4 - 5103 / 18656 * t5
    )
    a = K0 * exp(-_E_R / t) * c
    c6, t6 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    c = cr + h * (
        35 / 384 * c1 + 500 / 1113 * c3 + 125 / 192 * c4 - 2187 / 6784 * c5 + 11 / 84 * c6
    )
    t = tr + h * (
        35 / 384 * t1 + 500 / 1113 * t3 + 125 / 192 * t4 - 2187 / 6784 * t5 + 11 / 84 * t6
    )
    a = K0 * exp(-_E_R / t) * c
    c7, t7 = _FV * (CAF - c) - a, tc_cool - loss * t + _HEAT * a
    off_c = abs(
        71 / 57600 * c1
        - 71 / 16695 * c3
        + 71 / 1920 * c4
        - 17253 / 339200 * c5
        + 22 / 525 * c6
        - 0.025 * c7
    )
    off_t = abs(
        71 / 57600 * t1
        - 71 / 16695 * t3
        + 71 / 1920 * t4
        - 17253 / 339200 * t5
        + 22 / 525 * t6
        - 0.025 * t7
    )
    return c, t, c7, t7, off_c, off_t
