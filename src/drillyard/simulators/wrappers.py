"""Wrappers around one copy of a simulator, and how the state of a layer is read.

A layer is *stateful* when it implements ``state()``/``load_state()``, or is one of Gymnasium's own
that are known here; *stateless* when it keeps nothing between steps; *silent* otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import wrappers as gw

from drillyard.errors import CorruptObject, RunFailed
from drillyard.simulators.state import State
from drillyard.simulators.streams import lesson_word
from drillyard.spec.simulator.lessons import Lesson, draw
from drillyard.system import step_marker

Env = gym.Env[Any, Any]
StepResult = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]

_STATELESS: tuple[type, ...] = (
    gw.ClipAction,
    gw.ClipReward,
    gw.DtypeObservation,
    gw.FilterObservation,
    gw.FlattenObservation,
    gw.GrayscaleObservation,
    gw.RescaleAction,
    gw.RescaleObservation,
    gw.ReshapeObservation,
    gw.ResizeObservation,
    gw.TransformAction,
    gw.TransformObservation,
    gw.TransformReward,
)


class LessonWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Draws the reset values of each episode from a lesson.

    A seeded reset starts the sequence of draws anew from that seed, as Gymnasium's rule for
    ``reset(seed=…)`` has it; values that the caller gives as ``options`` win over drawn ones.

    Args:
        env: What to wrap.
        lesson: A valid lesson.
        seed: Until a reset brings one.
        copy: Index of this copy of the simulator.
        streams: Version of the random numbers, see ``streams``.
    """

    def __init__(
        self, env: Env, lesson: Lesson, seed: int = 0, copy: int = 0, streams: int = 1
    ) -> None:
        super().__init__(env)
        self._word = lesson_word(streams)
        self.lesson = lesson
        self._seed = seed
        self._copy = copy
        self._episode = 0
        self._drawn: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with drawn options."""
        if seed is not None:
            self._seed, self._episode = seed, 0
        drawn = draw(self.lesson, self._seed, self._copy, self._episode, self._word)
        self._episode += 1
        self._drawn = {**drawn, **(options or {})}
        return self.env.reset(seed=seed, options=dict(self._drawn))

    def step(self, action: Any) -> StepResult:
        """Step; ``info["lesson"]`` of an episode's last step has what it began with."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["lesson"] = self._drawn
        return observation, reward, terminated, truncated, info

    def state(self) -> State:
        """Seed, counter, and what the episode under way began with."""
        return {"seed": self._seed, "episode": self._episode, "drawn": dict(self._drawn)}

    def load_state(self, state: State) -> None:
        """Go on with the episode that comes next."""
        self._seed, self._episode = int(state["seed"]), int(state["episode"])
        self._drawn = dict(state.get("drawn", {}))


class EpisodeMonitor(gym.Wrapper[Any, Any, Any, Any]):
    """Sums up each episode into ``info["episode"] = {"r": return, "l": length}`` at its end.

    It is outside everything but inside the normalisation, so the return is the simulator's own.
    What a simulator raises gets a note with step, copy and seed.

    Args:
        env: What to wrap.
        copy: Index of this copy of the simulator.
    """

    def __init__(self, env: Env, copy: int = 0) -> None:
        super().__init__(env)
        self._return = 0.0
        self._length = 0
        self._copy = copy
        self._seed: int | None = None
        space = env.observation_space
        parts = space.items() if isinstance(space, gym.spaces.Dict) else [("", space)]
        self._parts = [
            (key, part.shape, part.dtype)
            for key, part in parts
            if isinstance(part, gym.spaces.Box)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._return, self._length = 0.0, 0
        self._seed = self._seed if seed is None else seed
        step_marker.enter(self._copy, 0, self._seed)
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            step_marker.note(error, self._copy, 0, self._seed)
            raise
        finally:
            step_marker.leave(self._copy)
        self._must_fit(observation)
        return observation, info

    def step(self, action: Any) -> StepResult:
        """Step, and sum up."""
        step_marker.enter(self._copy, self._length + 1, self._seed)
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except (Exception, SystemExit) as error:
            step_marker.note(error, self._copy, self._length + 1, self._seed)
            raise
        finally:
            step_marker.leave(self._copy)
        self._return += float(reward)
        self._length += 1
        self._must_fit(observation)
        if terminated or truncated:
            info["episode"] = {"r": self._return, "l": self._length}
        return observation, reward, terminated, truncated, info

    def _must_fit(self, observation: Any) -> None:
        """Refuse what numpy would stretch or cut into the learner's arrays without a word."""
        for key, shape, dtype in self._parts:
            part = observation
            if key:
                part = observation.get(key) if isinstance(observation, Mapping) else None
            if getattr(part, "shape", None) == shape and part.dtype == dtype:
                continue
            given = np.asarray(part)
            if given.shape == shape and np.can_cast(given.dtype, dtype, "same_kind"):
                continue
            what = f"the observation {key!r}" if key else "the observation"
            where = step_marker.place(self._copy, self._length, self._seed)
            raise RunFailed(
                f"{what} has shape {given.shape} and type {given.dtype}, where the space has "
                f"{shape} and {dtype}, at {where}",
                hint="`drillyard check` compares what the simulator gives with its spaces",
            )

    def state(self) -> State:
        """The sums so far."""
        return {"return": self._return, "length": self._length, "seed": self._seed}

    def load_state(self, state: State) -> None:
        """Go on summing."""
        self._return, self._length = float(state["return"]), int(state["length"])
        self._seed = state.get("seed")


class Scripted(gym.Wrapper[Any, Any, Any, Any]):
    """Plays a fixed list of episodes: each reset takes the next seed and options.

    After the last one it begins the last one again, for vectorised callers that must step on.

    Args:
        env: What to wrap.
        episodes: (seed, options) of each episode, at least one.
        on_reset: Told the seed and the options of each episode before it begins.
    """

    def __init__(
        self,
        env: Env,
        episodes: Sequence[tuple[int, dict[str, Any]]],
        on_reset: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__(env)
        self._episodes = list(episodes)
        self._on_reset = on_reset
        self._next = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode of the list; the arguments are not listened to."""
        own_seed, own_options = self._episodes[min(self._next, len(self._episodes) - 1)]
        self._next += 1
        if self._on_reset is not None:
            self._on_reset(own_seed, dict(own_options))
        return self.env.reset(seed=own_seed, options=dict(own_options))


def layers(env: Env) -> list[Env]:
    """An environment and everything it wraps, outermost first."""
    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


def is_silent(layer: Env) -> bool:
    """True when a layer may keep something that nobody can read."""
    return layer_state(layer) is None


def layer_state(layer: Env) -> State | None:
    """The state of one layer without what it wraps; None when it is silent."""
    own = getattr(layer, "state", None)
    if callable(own) and callable(getattr(layer, "load_state", None)):
        return dict(own())
    if type(layer) in _STATELESS:
        return {}
    if type(layer) is gw.TimeLimit:
        return {"elapsed": layer._elapsed_steps}
    if type(layer) is gw.OrderEnforcing:
        return {"has_reset": layer._has_reset}
    if type(layer) is gw.PassiveEnvChecker:
        return {"checked": layer.checked_reset and layer.checked_step}
    return None


def load_layer_state(layer: Any, state: State) -> None:
    """Put one layer into a state read by ``layer_state``.

    Raises:
        CorruptObject: The layer cannot take one; another stack wrote it.
    """
    if callable(getattr(layer, "load_state", None)):
        layer.load_state(state)
    elif type(layer) is gw.TimeLimit:
        layer._elapsed_steps = state["elapsed"]
    elif type(layer) is gw.OrderEnforcing:
        layer._has_reset = state["has_reset"]
    elif type(layer) is gw.PassiveEnvChecker:
        layer.checked_reset = layer.checked_step = state["checked"]
    elif type(layer) not in _STATELESS:
        raise CorruptObject(
            f"the checkpoint has a state for {type(layer).__name__}, a silent layer"
        )


def stack_state(env: Env) -> list[dict[str, Any]]:
    """The state of every layer of one copy, outermost first; none may be silent."""
    return [{"layer": type(layer).__name__, "state": layer_state(layer)} for layer in layers(env)]


def load_stack(env: Env, saved: list[dict[str, Any]]) -> None:
    """Put one copy into a state read by ``stack_state``.

    Raises:
        CorruptObject: It is that of other layers.
    """
    stack = layers(env)
    names, theirs = [type(layer).__name__ for layer in stack], [entry["layer"] for entry in saved]
    if names != theirs:
        raise CorruptObject(f"the checkpoint has the layers {theirs}, not {names}")
    for layer, entry in zip(stack, saved, strict=True):
        load_layer_state(layer, entry["state"])
