"""Restores a simulator that cannot be saved, by replaying the open episode.

``make_env`` puts ``EpisodeReplay`` around layers of which at least one has no ``state()``. Each
episode gets a separate seed, from the seed of the copy and the number of the episode. So it is
determined by its seed, its options and its actions, and these are its state. To restore it,
``load_state`` resets the simulator in the same way, takes the same actions, and compares what it
returns. The state of the layers inside is neither saved nor loaded.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from drillyard.simulators.state import State
from drillyard.simulators.streams import episode_seed
from drillyard.simulators.types import Action, Env, Layer, Observation, Options, ResetResult
from drillyard.simulators.types import StepResult as StepResult
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

if TYPE_CHECKING:
    from hashlib import _Hash


class EpisodeReplay(Layer):
    """Keeps the actions of the open episode; they are the state of everything inside.

    Args:
        env: What to wrap.
        seed: Used until a reset brings one.
    """

    def __init__(self, env: Env, seed: int = 0) -> None:
        super().__init__(env)
        self._seed, self._episode = seed, 0
        self._options: Options | None = None
        self._actions, self._rewards = bytearray(), array("d")
        self._form: tuple[str, list[int]] = ("", [])
        self._last: Observation | None = None
        self.difference = ""
        """How the last replay differed from the episode; empty if it did not."""

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode with its own seed."""
        if seed is not None:
            self._seed, self._episode = seed, 0
        episode = episode_seed(self._seed, self._episode)
        self._episode += 1
        self._forget()
        self._options = deepcopy(options)  # before a layer inside changes it
        observation, info = self.env.reset(seed=episode, options=options)
        self._last = observation
        return observation, info

    def step(self, action: Action) -> StepResult:
        """Steps, and keeps the action."""
        taken = np.asarray(action)
        if not self._rewards:
            self._form = (taken.dtype.str, list(taken.shape))
        data = taken.tobytes()  # before a layer inside changes it
        result = self.env.step(action)
        observation, reward, terminated, truncated, _ = result
        if terminated or truncated:
            self._forget()
            return result
        self._actions += data
        self._rewards.append(_number(reward))
        self._last = observation
        return result

    def _forget(self) -> None:
        self._actions, self._rewards, self._last = bytearray(), array("d"), None

    def state(self) -> State:
        """Seed, number, options and actions of the open episode, and what is compared."""
        state: State = {"seed": self._seed, "episode": self._episode, "open": False}
        if self._last is None:
            return state
        digest = hashlib.sha256()
        add_observation(digest, self._last)
        dtype, shape = self._form
        return state | {
            "open": True,
            "options": self._options,
            "actions": np.frombuffer(bytes(self._actions), np.uint8),
            "dtype": dtype,
            "shape": shape,
            "rewards": np.array(self._rewards, np.float64),
            "observation": digest.hexdigest(),
        }

    def load_state(self, state: State) -> None:
        """Replays the open episode; ``difference`` says whether it was another one then.

        An exception would end the process of a copy, so that it is a difference, too.
        """
        self._seed, self._episode, self.difference = int(state["seed"]), int(state["episode"]), ""
        self._forget()
        if not state["open"]:
            return
        try:
            self.difference = self._replay(state)
        except Exception as error:  # the simulator's author may raise anything
            self.difference = f"it raised {described(error)}"

    def _replay(self, state: State) -> str:
        """Plays an episode again; returns the first difference."""
        rewards = state["rewards"]
        taken = np.frombuffer(bytearray(state["actions"]), state["dtype"] or np.uint8)
        actions = taken.reshape(len(rewards), *state["shape"]) if len(rewards) else taken
        self._episode -= 1
        self.reset(options=state["options"])
        for number, (action, reward) in enumerate(zip(actions, rewards, strict=True), 1):
            report_activity("the replay of an episode")
            _, again, terminated, truncated, _ = self.step(action if action.ndim else action[()])
            if terminated or truncated:
                return f"the episode ended with step {number} of {len(rewards)}"
            now, before = _number(again), float(reward)
            if now != before and not (math.isnan(now) and math.isnan(before)):
                return f"the reward of step {number} is {now!r} and was {before!r}"
        digest = hashlib.sha256()
        add_observation(digest, self._last if self._last is not None else ())
        if digest.hexdigest() != state["observation"]:
            return f"the observation after step {len(rewards)} is another one"
        return ""


def add_observation(digest: _Hash, value: Observation) -> None:
    """Adds each part of an observation to a digest, with its type and shape."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(key.encode())
            add_observation(digest, value[key])
        return
    if isinstance(value, tuple):
        for part in value:
            add_observation(digest, part)
        return
    array_ = np.asarray(value)
    digest.update(f"{array_.dtype} {array_.shape}".encode())
    digest.update(np.ascontiguousarray(array_).tobytes())


def _number(reward: object) -> float:
    """A reward to compare; what is not a number is refused by ``EpisodeMonitor``."""
    try:
        return float(reward)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
