"""The reactor as pure functions, see ``drillyard.simulators.cstr.CstrEnv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.simulators import cstr_physics as physics
from drillyard.simulators.cstr import CstrEnv, beginning
from drillyard.simulators.functional.protocol import Stepped

Scalar: TypeAlias = jax.Array
_exp = jnp.exp
_clip = jnp.clip
_trial = physics.computed_with(physics.trial, exp=_exp)
_outcome = physics.computed_with(physics.outcome, exp=_exp)
_reference_at = physics.computed_with(physics.reference_at, clip=_clip)


class Episode(NamedTuple):
    """The parameters of an episode."""

    cr: np.ndarray
    tr: np.ndarray
    tc: np.ndarray
    begin: np.ndarray
    """When the reference begins to change, see ``cstr_physics.transition``."""
    noise: np.ndarray
    """As a part of the ranges, not in %."""
    step_time: np.ndarray
    parts: np.ndarray
    """Sub-intervals of a step."""


class State(NamedTuple):
    """As ``CstrEnv`` has it, without what follows from the rest."""

    cr: Scalar
    tr: Scalar
    tc: Scalar
    cref: Scalar
    cr_seen: Scalar
    tr_seen: Scalar
    time: Scalar
    steps: Scalar
    squares: Scalar


class Cstr:
    """See ``CstrEnv``.

    Args:
        coolant_rule: See there.
        render_mode: None.
    """

    version: ClassVar[int] = 1
    double: ClassVar[bool] = True

    def __init__(
        self,
        coolant_rule: Literal["held", "first-sub-interval"] = "held",
        render_mode: str | None = None,
    ) -> None:
        one = CstrEnv(coolant_rule, render_mode)  # it checks the rule
        self.observation_space, self.action_space = one.observation_space, one.action_space
        self.max_episode_steps: int | None = None
        self._held = coolant_rule == "held"

    def params(self, options: Mapping[str, Json]) -> Episode:
        """See ``FunctionalSimulator.params``."""
        return Episode(*np.array(beginning(options)))

    def reset(self, key: Scalar, params: Episode) -> tuple[Scalar, State]:
        """See ``FunctionalSimulator.reset``."""
        cr_seen, tr_seen = _measured(key, params.cr, params.tr, params.noise)
        nothing = jnp.zeros_like(params.cr)
        state = State(
            params.cr,
            params.tr,
            params.tc,
            params.cr,
            cr_seen,
            tr_seen,
            nothing,
            jnp.int32(0),
            nothing,
        )
        return _seen(state), state

    def step(self, key: Scalar, state: State, action: Scalar, params: Episode) -> Stepped:
        """See ``FunctionalSimulator.step``."""
        dt = jnp.asarray(params.step_time)
        change = action[0].astype(dt.dtype) * physics.ACTION_SCALE_K
        cap = jnp.floor(physics.MAX_CHANGE_PER_TIME_K * dt)
        change = jnp.where(jnp.isnan(change), 0.0, jnp.clip(change, -cap, cap))
        tc = state.tc + change
        later = tc if self._held else state.tc
        cref = _reference_at(state.time, jnp.asarray(params.begin))
        cr, tr = let_pass(state.cr, state.tr, tc, later, dt / params.parts, params.parts)
        cr_seen, tr_seen = _measured(key, cr, tr, params.noise)
        reward, terminated = _outcome(cr_seen, tr_seen, cref, tc, change, dt)
        new = State(
            cr,
            tr,
            tc,
            cref,
            cr_seen,
            tr_seen,
            state.time + dt,
            state.steps + 1,
            state.squares + jnp.square(cr_seen - cref),
        )
        info = {
            "state_Tr": tr_seen,
            "state_Cr": cr_seen,
            "state_Cref": cref,
            "state_Tc": tc,
            "state_Tc_adjust": change,
            "kpi_rms_conc_error": jnp.sqrt(new.squares / new.steps),
        }
        return _seen(new), new, reward, terminated, new.time > physics.EPISODE_TIME, info


class _Passing(NamedTuple):
    """A step under way."""

    cr: Scalar
    tr: Scalar
    c1: Scalar
    t1: Scalar
    cooled: Scalar
    h: Scalar
    left: Scalar


def let_pass(
    cr: Scalar, tr: Scalar, tc: Scalar, later: Scalar, duration: Scalar, parts: Scalar
) -> tuple[Scalar, Scalar]:
    """``cstr_physics.integrate`` over all sub-intervals of a step.

    Args:
        cr: Concentration (kmol/m3).
        tr: Temperature (K).
        tc: Coolant in the first sub-interval (K).
        later: Coolant in the others (K).
        duration: Time units of a sub-interval.
        parts: Number of sub-intervals.
    """
    # In float32, the rounding of one trial step is larger than the tolerance in float64.
    smallest = float(np.finfo(cr.dtype).eps)
    tolerance, least = max(physics.TOLERANCE, 8 * smallest), max(physics.MIN_STEP, 4 * smallest)
    cool = physics.UA / (physics.RHO_CP * physics.V)
    feed = physics.F / physics.V
    heat = -physics.DH / physics.RHO_CP

    done = max(1e-12, smallest)

    def begun(cr: Scalar, tr: Scalar, tc: Scalar) -> _Passing:
        k = physics.K0 * jnp.exp(-physics.E / physics.R / tr)
        a, cooled = k * cr, physics.TF * feed + cool * tc
        return _Passing(
            cr,
            tr,
            feed * (physics.CAF - cr) - a,
            cooled - (feed + cool) * tr + heat * a,
            cooled,
            jnp.minimum(jnp.minimum(duration, 0.25), 1.0 / (1.0 + k)),
            duration,
        )

    def pass_on(at: _Passing) -> _Passing:
        c, t, c7, t7, off_c, off_t = _trial(at.cr, at.tr, at.c1, at.t1, at.cooled, at.h)
        error = at.h * jnp.maximum(off_c / 10.0, off_t / 100.0)
        sound = error < jnp.inf
        taken = sound & ((error <= tolerance) | (at.h <= least))
        left = jnp.where(taken, at.left - at.h, at.left)
        # `cstr_physics.growth`; the rounding of float32 changes the step size, not the solution.
        ratio = jnp.clip(error / tolerance, 1e-4, 1e4).astype(jnp.float32)
        grown = jnp.clip(0.9 * jnp.exp(-0.2 * jnp.log(ratio)), 0.2, 5.0).astype(error.dtype)
        return _Passing(
            jnp.where(taken, c, at.cr),
            jnp.where(taken, t, at.tr),
            jnp.where(taken, c7, at.c1),
            jnp.where(taken, t7, at.t1),
            at.cooled,
            jnp.where(sound, jnp.minimum(left, at.h * grown), at.h * 0.1),
            left,
        )

    def part(at: tuple[Scalar, Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        cr, tr, tc, parts = at
        ended = jax.lax.while_loop(lambda at: at.left > done, pass_on, begun(cr, tr, tc))
        return ended.cr, ended.tr, later, parts - 1

    cr, tr, _, _ = jax.lax.while_loop(lambda at: at[-1] > 0.5, part, (cr, tr, tc, parts))
    return cr, tr


def _measured(key: Scalar, cr: Scalar, tr: Scalar, noise: Scalar) -> tuple[Scalar, Scalar]:
    drawn = jax.random.uniform(key, (2,), cr.dtype, -1.0, 1.0) * noise
    cr_range = physics.CR_LOW_CONVERSION - physics.CR_HIGH_CONVERSION
    tr_range = physics.TR_HIGH_CONVERSION - physics.TR_LOW_CONVERSION
    return cr + drawn[0] * cr_range, tr + drawn[1] * tr_range


def _seen(state: State) -> Scalar:
    values = (
        state.tr_seen / 600.0,
        state.cr_seen / 10.0,
        state.cref / 10.0,
        state.tc / 600.0,
    )
    return jnp.clip(jnp.stack(values), -1.0, 1.0).astype(jnp.float32)
