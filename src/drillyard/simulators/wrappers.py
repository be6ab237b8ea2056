"""Wrappers around one copy of a simulator, and how the state of a layer is read.

A layer is *stateful* when it implements ``state()``/``load_state()``, or is one of Gymnasium's own
that are known here; *stateless* when it keeps nothing between steps; *silent* otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np
from gymnasium import wrappers as gw

from drillyard.errors import CorruptObject, RunFailed
from drillyard.simulators.episode_replay import EpisodeReplay
from drillyard.simulators.far_outside import FarOutside
from drillyard.simulators.plain import PlainEnv
from drillyard.simulators.state import SavedStack, State
from drillyard.simulators.streams import lesson_word
from drillyard.simulators.types import Action, Layer, Observation, Options, ResetResult
from drillyard.simulators.types import Env as Env
from drillyard.simulators.types import StepResult as StepResult
from drillyard.spec.simulator.lessons import Lesson, draw
from drillyard.system import step_marker, user_code

if TYPE_CHECKING:
    from drillyard.simulators.episode_recorder import EpisodeRecorder

_STEPPED = "`drillyard check` steps the simulator and shows where it breaks"
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
_READ: dict[type, tuple[str, tuple[str, ...]]] = {
    gw.TimeLimit: ("elapsed", ("_elapsed_steps",)),
    gw.OrderEnforcing: ("has_reset", ("_has_reset",)),
    gw.PassiveEnvChecker: ("checked", ("checked_reset", "checked_step")),
}
"""Layers whose state is read and set here: its key, and the attributes that have it."""


class LessonWrapper(Layer):
    """Draws the reset values of each episode from a lesson.

    A seeded reset starts the sequence of draws anew from that seed, as Gymnasium's rule for
    ``reset(seed=…)`` has it; values that the caller gives as ``options`` win over drawn ones.

    Args:
        env: What to wrap.
        lesson: A valid lesson.
        seed: Used until a reset brings one.
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
        self._drawn: Options = {}

    def set_lesson(self, lesson: Lesson) -> None:
        """Draws from another lesson from the next episode on."""
        self.lesson = lesson

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode with drawn options."""
        if seed is not None:
            self._seed, self._episode = seed, 0
        drawn = draw(self.lesson, self._seed, self._copy, self._episode, self._word)
        self._episode += 1
        self._drawn = {**drawn, **(options or {})}
        return self.env.reset(seed=seed, options=dict(self._drawn))

    def step(self, action: Action) -> StepResult:
        """Steps; ``info["lesson"]`` of an episode's last step has its initial conditions."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["lesson"] = self._drawn
        return observation, reward, terminated, truncated, info

    def state(self) -> State:
        """Seed, counter, and the initial conditions of the current episode."""
        return {"seed": self._seed, "episode": self._episode, "drawn": dict(self._drawn)}

    def load_state(self, state: State) -> None:
        """Continues with the next episode."""
        self._seed, self._episode = int(state["seed"]), int(state["episode"])
        self._drawn = dict(state.get("drawn", {}))


class EpisodeMonitor(Layer):
    """Sums up each episode into ``info["episode"] = {"r": return, "l": length}`` at its end.

    It wraps everything except the normalisation, so the return is the simulator's own.
    Exceptions of the simulator get a note with step, episode, copy and seed, and the episode is
    recorded (``EpisodeRecorder``) in an attempt of a run.

    Args:
        env: What to wrap.
        copy: Index of this copy of the simulator.
        recorder: Records its episodes; None: they are not recorded.
    """

    def __init__(self, env: Env, copy: int = 0, recorder: EpisodeRecorder | None = None) -> None:
        super().__init__(env)
        self._return = 0.0
        self._length = 0
        self._copy = copy
        self._seed: int | None = None
        self._episode = 0
        self._options: Options | None = None
        self._reward = 0.0
        self._recorder = recorder
        self._lessons = next((e for e in layers(env) if isinstance(e, LessonWrapper)), None)
        space = env.observation_space
        parts = space.items() if isinstance(space, gym.spaces.Dict) else [("", space)]
        self._far = FarOutside(space, type(layers(env)[-1]).__name__)
        self._parts = [
            (key, part.shape, part.dtype)
            for key, part in parts
            if isinstance(part, gym.spaces.Box)
        ]

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode."""
        self._seed = self._seed if seed is None else seed
        self._episode += 1
        self._options = options
        if self._recorder is not None:
            self._record_reset(seed, options)
        self._return, self._length = 0.0, 0
        step_marker.enter(self._copy, 0, self._seed)
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            self.failed()
            self._note(error, "reset")
            raise
        finally:
            step_marker.leave(self._copy)
        self._must_fit(observation, whole=True)
        return observation, info

    def step(self, action: Action) -> StepResult:
        """Step, and sum up."""
        if self._recorder is not None:
            if self._recorder.wanted:
                self._record_state()
            self._recorder.step(action, self._reward)
        step_marker.enter(self._copy, self._length + 1, self._seed)
        self._length += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except (Exception, SystemExit) as error:
            self.failed()
            self._note(error, "step")
            raise
        finally:
            step_marker.leave(self._copy)
        try:
            self._reward = float(reward)
        except (TypeError, ValueError) as error:
            given = np.asarray(reward)
            what = f"an array of shape {given.shape}" if given.ndim else repr(reward)[:80]
            raise self._refused(
                f"the reward is {what}, where one number is needed",
                "return one number a step, such as float(reward) or rewards.sum()",
            ) from error
        if not math.isfinite(self._reward):
            raise self._refused(f"the simulator returned {self._reward} as reward", _STEPPED)
        self._return += self._reward
        over = terminated or truncated
        self._must_fit(observation, whole=bool(over))
        if over:
            info["episode"] = {"r": self._return, "l": self._length}
        return observation, reward, terminated, truncated, info

    def failed(self) -> str:
        """Keep the record of this episode; returns where the copy is.

        The learner calls it for what only it sees, such as an observation that is not finite.
        """
        if self._recorder is not None:
            self._recorder.fail(self._length)
        where = step_marker.place(self._copy, self._length, self._seed, episode=self._episode)
        where += self._source("step" if self._length else "reset")
        return f"{where} with the options {self._options}" if self._options else where

    def silent_layers(self) -> list[str]:
        """See the function of this name."""
        return silent_layers(self)

    def stack_state(self) -> SavedStack:
        """See the function of this name."""
        return stack_state(self)

    def load_stack(self, saved: SavedStack) -> str:
        """See the function of this name."""
        return load_stack(self, saved)

    def close(self) -> None:
        """Close the simulator, and delete a record that is not needed."""
        if self._recorder is not None:
            self._recorder.close()
        super().close()

    def _source(self, method: str) -> str:
        """Where the user defines a method of the simulator; empty if it is not the user's."""
        base = layers(self.env)[-1]
        owner = base.simulator if isinstance(base, PlainEnv) else base
        line = user_code.defined(getattr(owner, method))
        return f", in {line}" if line else ""

    def _note(self, error: BaseException, method: str) -> None:
        """Add where the copy is to what the simulator raised, or what its values were refused."""
        at = (self._copy, self._length, self._seed)
        source = self._source(method) if error.__cause__ is None else ""  # a cause has a line
        step_marker.note(error, *at, episode=self._episode, source=source)

    def _refused(self, what: str, hint: str) -> RunFailed:
        return RunFailed(f"{what}, at {self.failed()}", hint=hint)

    @property
    def _lesson(self) -> Lesson | None:
        return self._lessons.lesson if self._lessons is not None else None

    def _record_reset(self, seed: int | None, options: Options | None) -> None:
        assert self._recorder is not None
        lesson = self._lesson
        if seed is not None:
            self._recorder.seeded(seed, options, self._episode, lesson)
        elif options or self._recorder.due(lesson):
            self._recorder.begin(layers(self.env), self._seed, self._episode, 0, lesson, options)
        else:
            self._recorder.reset(self._reward)

    def _record_state(self) -> None:
        """In the middle of an episode, after a resume."""
        assert self._recorder is not None
        inner = layers(self.env)
        self._recorder.begin(inner, self._seed, self._episode, self._length, self._lesson)

    def _must_fit(self, observation: Observation, whole: bool) -> None:
        """Refuses what numpy would silently broadcast or cut to fit the learner's arrays.

        Args:
            observation: What the simulator returned.
            whole: Look at each number. Learners look at all others, but not at the last
                observation of an episode, and a failure of the first one belongs to the reset.
        """
        self._far.look(observation)
        for key, shape, dtype in self._parts:
            part: Observation | None = observation
            if key:
                part = observation.get(key) if isinstance(observation, Mapping) else None
            given = np.asarray(part)
            fits = given.dtype == dtype or np.can_cast(given.dtype, dtype, "same_kind")
            if given.shape == shape and fits:
                if whole and given.dtype.kind == "f" and not np.isfinite(given).all():
                    index = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
                    name = f"observation {key!r}" if key else "observation"
                    what = f"{given[index]} as {name}[{', '.join(map(str, index))}]"
                    raise self._refused(f"the simulator returned {what}", _STEPPED)
                continue
            what = f"the observation {key!r}" if key else "the observation"
            raise self._refused(
                f"{what} has shape {given.shape} and type {given.dtype}, where the space has "
                f"{shape} and {dtype}",
                "`drillyard check` compares what the simulator gives with its spaces",
            )

    def state(self) -> State:
        """The sums so far."""
        return {"return": self._return, "length": self._length, "seed": self._seed}

    def load_state(self, state: State) -> None:
        """Continues from the sums."""
        self._return, self._length = float(state["return"]), int(state["length"])
        self._seed = state.get("seed")
        if self._recorder is not None:
            self._recorder.wanted = True


class Scripted(Layer):
    """Plays a fixed list of episodes: each reset takes the next seed and options.

    After the last episode it repeats the last one, for vectorised callers that must keep stepping.

    Args:
        env: What to wrap.
        episodes: (seed, options) of each episode, at least one.
        on_reset: Called with the seed and the options of each episode before it begins.
    """

    def __init__(
        self,
        env: Env,
        episodes: Sequence[tuple[int, Options]],
        on_reset: Callable[[int, Options], None] | None = None,
    ) -> None:
        super().__init__(env)
        self._episodes = list(episodes)
        self._on_reset = on_reset
        self._next = 0

    def restart(self) -> None:
        """Lets the next reset begin the first episode of the list."""
        self._next = 0

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begins the next episode of the list; the arguments are ignored."""
        own_seed, own_options = self._episodes[min(self._next, len(self._episodes) - 1)]
        self._next += 1
        if self._on_reset is not None:
            self._on_reset(own_seed, dict(own_options))
        return self.env.reset(seed=own_seed, options=dict(own_options))


def layers(env: Env) -> list[Env]:
    """An environment and everything it wraps, outermost first."""
    stack = [env]
    while isinstance(stack[-1], gym.Wrapper):
        stack.append(stack[-1].env)
    return stack


def saved_layers(env: Env) -> list[Env]:
    """The layers whose state is saved, outermost first: none inside of an ``EpisodeReplay``."""
    stack = layers(env)
    ends = [place for place, layer in enumerate(stack, 1) if isinstance(layer, EpisodeReplay)]
    return stack[: ends[0]] if ends else stack


def is_silent(layer: Env) -> bool:
    """Returns whether a layer may keep state that cannot be read."""
    able = all(callable(getattr(layer, name, None)) for name in ("state", "load_state"))
    return not able and type(layer) not in (*_STATELESS, *_READ)


def silent_layers(env: Env) -> list[str]:
    """Names of the saved layers that may keep state that cannot be read."""
    return [type(layer).__name__ for layer in saved_layers(env) if is_silent(layer)]


def layer_state(layer: Env) -> State | None:
    """The state of one layer without what it wraps; None when it is silent."""
    read = getattr(layer, "state", None)
    if callable(read) and callable(getattr(layer, "load_state", None)):
        return dict(read())
    if type(layer) in _STATELESS:
        return {}
    if type(layer) in _READ:
        key, attributes = _READ[type(layer)]
        return {key: min(getattr(layer, name) for name in attributes)}
    return None


def load_layer_state(layer: Env, state: State) -> None:
    """Restores a state that was read by ``layer_state``.

    Raises:
        CorruptObject: The layer has no state; another stack wrote it.
    """
    load = getattr(layer, "load_state", None)
    if callable(load):
        load(state)
    elif type(layer) in _READ:
        key, attributes = _READ[type(layer)]
        for name in attributes:
            setattr(layer, name, state[key])
    elif type(layer) not in _STATELESS:
        raise CorruptObject(
            f"the checkpoint has a state for {type(layer).__name__}, a silent layer"
        )


def stack_state(env: Env) -> SavedStack:
    """The state of the saved layers of one copy, outermost first; none may be silent."""
    return [
        {"layer": type(layer).__name__, "state": layer_state(layer)} for layer in saved_layers(env)
    ]


def load_stack(env: Env, saved: SavedStack) -> str:
    """Restores a state that was read by ``stack_state``.

    Returns:
        How a replayed episode differs from the one that was saved; empty if it does not.

    Raises:
        CorruptObject: The state belongs to other layers.
    """
    stack = saved_layers(env)
    names, theirs = [type(layer).__name__ for layer in stack], [entry["layer"] for entry in saved]
    if names != theirs:
        raise CorruptObject(f"the checkpoint has the layers {theirs}, not {names}")
    for layer, entry in zip(stack, saved, strict=True):
        load_layer_state(layer, entry["state"] or {})
    return "".join(layer.difference for layer in stack if isinstance(layer, EpisodeReplay))
