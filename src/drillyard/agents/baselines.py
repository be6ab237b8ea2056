"""Untrained policies, which give scores a scale.

A baseline sees the simulator's own observations (no normalisation, no stacked frames) and plays
the same episodes, seeds and options as the agent.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.agents.named import NamedBaseline
from drillyard.documents.space_text import space_text
from drillyard.errors import (
    ConfigError,
    DrillyardError,
    PackagesMissing,
    PluginError,
    SpaceMismatch,
)
from drillyard.findings import Finding, passed
from drillyard.registry import load
from drillyard.simulators.make import reset_keys
from drillyard.simulators.random_actions import MASKS, drawn, is_masked
from drillyard.simulators.wrappers import Env, layers
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.simulator.lessons import validate_lesson
from drillyard.system.user_code import described

_SEED = 0
_SHAPE = (
    "write reset(seed, options) and act_named(states), which returns the values of the actions by "
    "name; or __init__(environment) and act(observation), which returns one number for each action"
)


class Baseline(Protocol):
    """A policy made from an environment: ``kind(env)``, registered under ``drillyard.baselines``.

    A class with ``act_named`` instead of ``act`` is a ``named.Controller``.

    The constructor looks at spaces and raises ``SpaceMismatch`` when it cannot act there; it does
    not step the environment.
    """

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Begin an episode.

        Args:
            seed: The same that the simulator is reset with.
            options: The same too.
        """

    def act(self, observation: Any) -> Any:
        """The action for one observation (no batch)."""


def make_baseline(name: str, env: Env) -> Baseline:
    """Make a baseline by name or ``module:Class``.

    Args:
        name: As in the experiment's ``baselines:``.
        env: One copy of the simulator, for its spaces.

    Raises:
        PluginError: The name is unknown.
        SpaceMismatch: It cannot act in this simulator.
    """
    kind: Callable[[Env], Baseline] = load("baselines", name)
    return NamedBaseline(kind, env) if hasattr(kind, "act_named") else kind(env)


def check_baselines(spec: ExperimentSpec, env: Env) -> list[Finding]:
    """Verify before anything runs that every baseline can act, and the evaluation's lesson.

    Args:
        spec: Its ``baselines`` and ``evaluate.lesson``.
        env: One copy of its simulator.

    Raises:
        PackagesMissing: A baseline needs packages that are not installed.
        SpaceMismatch: It cannot act in this simulator.
        ConfigError: The name of a baseline is unknown, it raises or returns no action of this
            simulator, or the lesson has an unknown key.
    """
    if spec.evaluate.lesson is not None:
        validate_lesson(spec.evaluate.lesson, reset_keys(env), "evaluate.lesson")
    for position, name in enumerate(spec.baselines):
        _try_once(name, env, f"baselines[{position}]")
    if not spec.baselines:
        return []
    return [passed("baselines", f"{', '.join(spec.baselines)} can act here")]


def _try_once(name: str, env: Env, field: str) -> None:
    """Ask a baseline for one action. Otherwise its mistake shows after the whole training."""
    space = env.action_space
    try:
        baseline = make_baseline(name, env)
    except PluginError as error:
        if isinstance(error, PackagesMissing):
            raise
        raise ConfigError(error.message, field=field, value=name, hint=error.hint) from error
    except DrillyardError:
        raise
    except Exception as error:
        raise ConfigError(
            f"cannot be created: {described(error)}", field=field, value=name, hint=_SHAPE
        ) from error
    try:
        observation, _ = env.reset(seed=_SEED)
    except Exception:
        return  # the simulator's fault, which its own check reports
    allowed = f"an action of {space_text(space)}"
    try:
        baseline.reset(_SEED, {})
        action = baseline.act(observation)
    except Exception as error:
        raise ConfigError(
            f"raised at the first observation of an episode: {described(error)}",
            field=field,
            value=name,
            allowed=allowed,
            hint=_SHAPE,
        ) from error
    broken = _not_an_action(action, space)
    if broken:
        raise ConfigError(
            f"act() returned {broken}", field=field, value=name, allowed=allowed, hint=_SHAPE
        )


def _not_an_action(action: Any, space: spaces.Space[Any]) -> str:
    """What is wrong with an action; empty if nothing is. Simulators clip what is out of bounds."""
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete):
        return ""
    if action is None:
        return "None"
    try:
        values = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        return f"a {type(action).__name__} that is not numbers"
    size = math.prod(space.shape or ())
    if values.size != size:
        numbers = "number" if values.size == 1 else "numbers"
        return f"{values.size} {numbers} instead of {size}"
    return "" if np.all(np.isfinite(values)) else "a number that is not finite"


class Hold:
    """Holds the action.

    A simulator can define the idle action with an attribute ``hold_action``. Otherwise it is the
    first of discrete actions, or the middle of a Box (zero change, if actions are changes); if a
    side of the Box is open, the value that is nearest to 0.
    """

    def __init__(self, env: Env) -> None:
        declared = getattr(layers(env)[-1], "hold_action", None)
        self._action = _idle(env.action_space) if declared is None else declared

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Nothing to begin."""

    def act(self, observation: Any) -> Any:
        """The idle action."""
        return self._action


class Random:
    """Draws each action from the action space, with a generator of its own."""

    def __init__(self, env: Env) -> None:
        # A copy: the simulator's own space keeps its own generator.
        self._space = copy.deepcopy(env.action_space)
        self.mask: Callable[[], Any] | None = None
        """Says which actions are possible now, in the form of ``drawn``; None: all are."""
        if is_masked(env):
            self.mask = env.get_wrapper_attr(MASKS)

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Begin an episode's draws."""
        # Not the simulator's own random numbers, though they share the seed.
        self._space.seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))

    def act(self, observation: Any) -> Any:
        """A drawn action."""
        return drawn(self._space, None if self.mask is None else self.mask())


class PController:
    """Proportional control around steady states, as a process engineer would use it.

        Tc = Tc_s(Cref) + 4 (Tr_s(Cref) - Tr)

    ``Tr_s`` and ``Tc_s`` are the temperatures of reactor and coolant at which the reactor rests
    with the concentration ``Cref``; they follow from its two balances. The gain is the best of 2,
    3, 4, 5, 6 and 8 by mean return over signals 1 to 4 without noise (84.5, 85.4, 85.8, 84.8, 85.0
    and 64.6). The coolant moves at most 10 K a step.

    Raises:
        SpaceMismatch: The simulator is not ``cstr``.
    """

    GAIN = 4.0

    def __init__(self, env: Env) -> None:
        from drillyard.simulators.cstr import CstrEnv

        if not isinstance(layers(env)[-1], CstrEnv) or env.observation_space.shape != (4,):
            raise SpaceMismatch(
                f"baseline p-controller is for the reactor only, not for {layers(env)[-1]}",
                hint="remove p-controller from `baselines:`, or use your own module:Class",
            )

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """It keeps nothing between steps."""

    def act(self, observation: Any) -> np.ndarray:
        """The change of the coolant, in 10 K."""
        tr, _, cref, tc = (float(v) for v in observation * (600.0, 10.0, 10.0, 600.0))
        tr_steady, tc_steady = _steady_state(cref)
        change = (tc_steady + self.GAIN * (tr_steady - tr) - tc) / 10.0
        return np.array([min(max(change, -1.0), 1.0)], dtype=np.float32)


def _steady_state(cr: float) -> tuple[float, float]:
    """(Tr, Tc) in K at which the reactor rests with a concentration in kmol/m3."""
    from drillyard.simulators import cstr_physics as reactor

    # A measured concentration may lie outside what the feed allows.
    cr = min(max(cr, 0.01), reactor.CAF - 0.01)
    reacting = reactor.F / reactor.V * (reactor.CAF - cr)
    tr = reactor.E / reactor.R / math.log(reactor.K0 * cr / reacting)
    warming = reactor.F / reactor.V * (reactor.TF - tr) - reactor.DH / reactor.RHO_CP * reacting
    return tr, tr - warming * reactor.RHO_CP * reactor.V / reactor.UA


def _idle(space: gym.Space[Any]) -> Any:
    if isinstance(space, spaces.Discrete):
        return space.start
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return np.zeros(space.shape, dtype=space.dtype)
    if isinstance(space, spaces.Box):
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle = np.where(bounded, (low + high) / 2, np.clip(0.0, low, high))
        return middle.astype(space.dtype)
    raise SpaceMismatch(
        f"baseline hold has no idle action for {space_text(space)}",
        hint="give the simulator an attribute `hold_action`",
    )


__all__ = ["Baseline", "Hold", "PController", "Random", "check_baselines", "make_baseline"]
