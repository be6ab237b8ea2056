"""Steps a simulator at random or at its limits, and looks at what each step returns."""

from __future__ import annotations

import time
from typing import SupportsFloat

import numpy as np
from gymnasium import spaces

from drillyard.documents.space_text import space_text
from drillyard.simulators.far_outside import a_little, is_near
from drillyard.simulators.types import Action, Env, Info, Observation
from drillyard.system.watchdog import report_activity

LONGEST_S = 10.0
"""Seconds after which a slow simulator is given no more steps of a kind."""
FEWEST = 5
"""Steps that it is given all the same."""
_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Stepping:
    """Steps a simulator until the first fault.

    Args:
        env: The simulator.
        how: What chooses the actions, for messages.
    """

    def __init__(self, env: Env, how: str) -> None:
        self.env, self._how = env, how
        self.step = 0
        """Steps so far, with the one under way."""
        self.broken: str | None = None
        """What is wrong with the last result."""
        self.little = ""
        """The first observation that is a little outside its space, and where it was seen."""
        self._began = time.monotonic()

    @property
    def where(self) -> str:
        """The step, for messages."""
        return f"step {self.step}, {self._how}"

    @property
    def enough(self) -> bool:
        """Whether a slow simulator has taken the steps that it is given."""
        return self.step >= FEWEST and time.monotonic() - self._began > LONGEST_S

    def reset(self, seed: int | None = None) -> tuple[Observation, Info]:
        """Begins an episode."""
        after = f"reset after step {self.step}" if self.step else "reset"
        report_activity(f"{after}, {self._how}")
        return self.env.reset(seed=seed)

    def take(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Does a step."""
        self.step += 1
        report_activity(self.where)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.broken = fault(self.env, observation, reward)
        if self.broken is not None:
            return observation, 0.0, bool(terminated), bool(truncated), info
        if not self.little and (text := a_little(self.env.observation_space, observation)):
            self.little = f"{self.where}: {text}"
        return observation, float(reward), bool(terminated), bool(truncated), info


def fault(env: Env, observation: Observation, reward: SupportsFloat) -> str | None:
    """Returns what is wrong with a step's result, with index and value; None if nothing.

    Args:
        env: The environment, for its spaces.
        observation: What the step returned.
        reward: What the step returned.
    """
    top = env.observation_space
    broken = _reward_fault(reward)
    if broken is None and not isinstance(
        top, spaces.Tuple | spaces.Text | spaces.Sequence | spaces.Graph | spaces.OneOf
    ):
        parts = observation.items() if isinstance(observation, dict) else [("", observation)]
        for key, part in parts:
            inner = top[key] if isinstance(top, spaces.Dict) and key in top.spaces else top
            if broken is None and isinstance(inner, _ARRAYS):
                name = f"observation {key!r}" if key else "observation"
                broken = _part_fault(name, np.asarray(part), inner)
    if broken is None and not is_near(top, observation):
        return f"the observation {short(observation)} is outside {space_text(top)}"
    return broken


def _part_fault(name: str, array: np.ndarray, space: spaces.Space[Observation]) -> str | None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        return f"{name}[{', '.join(map(str, index))}] is {array[index]}"
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if shape is not None and array.shape != shape:
        return f"{name} has shape {array.shape}, the space has {shape}"
    if shape and dtype is not None and array.dtype != dtype:
        return f"{name} is {array.dtype}, the space has {dtype}"
    return None


def _reward_fault(reward: SupportsFloat) -> str | None:
    array = np.asarray(reward)
    if array.ndim != 0:
        return f"the reward is an array of shape {array.shape}, not a number"
    try:
        finite = np.isfinite(float(reward))
    except (TypeError, ValueError):
        finite = False
    return None if finite else f"the reward is {reward!r}"


def short(value: object) -> str:
    """A value on one line of a message."""
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "…"
