"""Weather, occupancy, comfort and heat of the building; arrays of any one shape throughout.

Every function takes ``xp``, the library that it computes with: ``numpy``, or ``jax.numpy``.

    C dT/dt = (T_out - T) / R + Q_hvac + Q_sun + Q_inside

With constant inputs over a step of ``STEP_S`` its exact solution is
``T' = T_eq + (T - T_eq) exp(-STEP_S / (R C))``, ``T_eq = T_out + R (Q_hvac + Q_sun + Q_inside)``.
"""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

STEP_S = 900.0
"""A step: 15 minutes."""
STEPS_PER_DAY = 96
R = 0.005
"""Resistance of the envelope (K/W)."""
C = 2.0e7
"""Heat capacity of air and walls (J/K): a time constant of 28 hours."""
HVAC_W = 10_000.0
"""Most that is heated or cooled (W of heat)."""
COP = 3.0
"""Heat moved a unit of electricity."""
APERTURE_M2 = 6.0
OCCUPIED_W, ALWAYS_W = 1_500.0, 300.0
"""Heat of people and lights when occupied, and of equipment at any time (W)."""
PERIODS_DAYS = np.array([2.3, 3.7, 6.1])
"""Of the disturbances of the weather."""
DECAY = float(np.exp(-STEP_S / (R * C)))

WINTER_C, SUMMER_C = (20.0, 23.5), (23.0, 26.0)
SUMMER_DAYS = (151, 272)
"""1 June to 30 September, as days of a year of 365, from 0."""

Array = Any
"""An array of NumPy or JAX."""
HEATING_C, COOLING_C = (15.0, 23.5), (22.0, 30.0)
"""Ranges of the set points."""
ENERGY_SCALE, COMFORT_SCALE = 1e-4, 1.0
"""Cost of a W and of a K."""


def season(day: Array, xp: Any = np) -> Array:
    """-1 at the coldest (21 January) to 1 at the warmest.

    Args:
        day: Days since the year began, with fractions.
        xp: See this module.
    """
    return -xp.cos(2.0 * np.pi * (day - 20.0) / 365.0)


def outdoor(day: Array, swings: Array, phases: Array, xp: Any = np) -> Array:
    """Temperature outside (°C).

    Args:
        day: Days since the year began.
        swings: Amplitudes of the disturbances (K), (…, 3).
        phases: Theirs (rad), (…, 3).
        xp: See this module.
    """
    hour = 24.0 * (day % 1.0)
    waves = swings * xp.sin(2.0 * np.pi * day[..., None] / PERIODS_DAYS + phases)
    fronts = xp.sum(waves, axis=-1)
    daily = 5.0 * xp.sin(2.0 * np.pi * (hour - 9.0) / 24.0)
    return 12.0 + 10.0 * season(day, xp) + daily + fronts


def sun(day: Array, clear: Array, xp: Any = np) -> Array:
    """Radiation on the windows (W/m²).

    Args:
        day: Days since the year began.
        clear: 0 overcast to 1 clear.
        xp: See this module.
    """
    height = xp.maximum(0.0, xp.sin(np.pi * (24.0 * (day % 1.0) - 6.0) / 12.0))
    return height * (600.0 + 250.0 * season(day, xp)) * clear


def after_a_step(day: Array, exact: bool, xp: Any = np) -> Array:
    """The time a quarter of an hour later.

    Args:
        day: Days since the year began, with fractions.
        exact: Count whole quarters; otherwise rounding errors add up.
        xp: See this module.
    """
    if exact:
        return (xp.rint(day * STEPS_PER_DAY) + 1.0) / STEPS_PER_DAY
    return day + 1.0 / STEPS_PER_DAY


def occupied(day: Array, exact: bool = False, xp: Any = np) -> Array:
    """1 from 8 to 18 o'clock on five of seven days, else 0; the year begins on the first.

    Args:
        day: Days since the year began, with fractions.
        exact: Compare whole quarters of an hour; otherwise 8 o'clock may be 7.9999.
        xp: See this module.
    """
    if exact:
        hour = xp.rint(day * STEPS_PER_DAY) % STEPS_PER_DAY * 24.0 / STEPS_PER_DAY
    else:
        hour = 24.0 * (day % 1.0)
    there = (day % 7.0 < 5.0) & (hour >= 8.0) & (hour < 18.0)
    return xp.where(there, xp.ones_like(day), 0.0)


def comfort(day: Array, xp: Any = np) -> tuple[Array, Array]:
    """Lower and upper end of the comfort band (°C), by the date."""
    date = xp.floor(day % 365.0)
    summer = (date >= SUMMER_DAYS[0]) & (date <= SUMMER_DAYS[1])
    return (xp.where(summer, SUMMER_C[0], WINTER_C[0]), xp.where(summer, SUMMER_C[1], WINTER_C[1]))


def calendar(day: float) -> dict[str, int]:
    """``month`` (1 to 12), ``day`` of the month and ``hour`` (0 to 23) of a year of 365 days.

    Args:
        day: Days since the year began, with fractions.
    """
    # A quarter of an hour is no binary fraction of a day: 7.9999 o'clock is 8.
    quarters = round(day * STEPS_PER_DAY) % (365 * STEPS_PER_DAY)
    date = datetime.date(2001, 1, 1) + datetime.timedelta(quarters // STEPS_PER_DAY)
    hour = quarters % STEPS_PER_DAY * 24 // STEPS_PER_DAY
    return {"month": date.month, "day": date.day, "hour": hour}


def set_points(actions: Array, xp: Any = np) -> tuple[Array, Array]:
    """Where heating and cooling begin (°C).

    Args:
        actions: (…, 2), -1 to 1; NaN counts as 0.
        xp: See this module.
    """
    share = (xp.clip(xp.nan_to_num(actions), -1.0, 1.0) + 1.0) / 2.0
    heating = HEATING_C[0] + share[..., 0] * (HEATING_C[1] - HEATING_C[0])
    cooling = COOLING_C[0] + share[..., 1] * (COOLING_C[1] - COOLING_C[0])
    return heating, xp.maximum(cooling, heating)


def costs(
    day: Array, indoor: Array, power: Array, weight: float, exponential: bool, xp: Any = np
) -> tuple[Array, Array, Array]:
    """The two terms of the reward, and the degrees outside the comfort band.

    Args:
        day: Days since the year began, at the beginning of the step.
        indoor: Temperature at its end (°C).
        power: Its mean electrical power (W).
        weight: Of energy, 0 to 1.
        exponential: The form of the reward.
        xp: See this module.
    """
    low, high = comfort(day, xp)
    beyond = xp.maximum(0.0, xp.maximum(low - indoor, indoor - high))
    cost = xp.where(beyond > 0, xp.exp(beyond), 0.0) if exponential else beyond
    return -weight * ENERGY_SCALE * power, -(1.0 - weight) * COMFORT_SCALE * cost, beyond


def seen(
    day: Array,
    indoor: Array,
    weather: tuple[Array, Array, Array],
    low: Array,
    high: Array,
    xp: Any = np,
) -> Array:
    """What the agent sees, (…, 10) float32.

    Args:
        day: Days since the year began.
        indoor: Temperature (°C).
        weather: Results of ``outdoor``, ``sun`` and ``occupied``.
        low: Lower end of each part.
        high: Upper end of each part.
        xp: See this module.
    """
    outside, radiation, people = weather
    hour, year = 2.0 * np.pi * (day % 1.0), 2.0 * np.pi * day / 365.0
    clock = (xp.sin(hour), xp.cos(hour), xp.sin(year), xp.cos(year))
    rest = (outside, radiation, indoor, people, *comfort(day, xp))
    scaled = 2.0 * (xp.stack([*clock, *rest], axis=-1) - low) / (high - low) - 1.0
    return xp.clip(scaled, -1.0, 1.0).astype(np.float32)


def let_pass(
    indoor: Array,
    outside: Array,
    radiation: Array,
    people: Array,
    heating: Array,
    cooling: Array,
    xp: Any = np,
) -> tuple[Array, Array]:
    """One step under two set points, held as far as the plant can.

    Args:
        indoor: Temperature (°C).
        outside: Temperature outside (°C).
        radiation: On the windows (W/m²).
        people: 1 when occupied.
        heating: Set point below which is heated (°C).
        cooling: Set point above which is cooled (°C), not below ``heating``.
        xp: See this module.

    Returns:
        Temperature at the end of the step (°C), mean electrical power of the step (W).
    """
    gains = APERTURE_M2 * radiation + OCCUPIED_W * people + ALWAYS_W
    balance = outside + R * gains
    free = balance + (indoor - balance) * DECAY
    per_watt = R * (1.0 - DECAY)
    heat = xp.clip((xp.clip(free, heating, cooling) - free) / per_watt, -HVAC_W, HVAC_W)
    return free + heat * per_watt, xp.abs(heat) / COP
