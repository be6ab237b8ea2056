"""The worlds of `peers`: what is trained how, and a watch that all sides see alike.

Imported in each side's own environment, so it needs Gymnasium and NumPy alone; the reactor needs
drillyard's simulators as well. Every world exists as a Gymnasium id ``peers/NAME-v0`` whose
copies note each end of an episode.
"""

from __future__ import annotations

import collections
import json
import time
from dataclasses import dataclass, field
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

COPIES = 8
LAST = 20
"""Episodes of which the mean return counts."""


@dataclass(frozen=True)
class World:
    """What is trained how; arguments have Stable-Baselines3's names.

    Attributes:
        inner: Id that drillyard, gymnax and Gymnasium know; empty: only ours, by class.
        threshold: Of the mean return of the last 20 episodes in training.
        steps: Budget of a training.
        args: Of PPO.
        normalize: Each side uses its own normalisation of observations (and rewards).
    """

    inner: str
    threshold: float
    steps: int
    args: dict[str, Any] = field(default_factory=dict)
    normalize: bool = False
    image: bool = False


_ARGS = {"n_steps": 128, "batch_size": 256, "n_epochs": 10, "learning_rate": 1e-3}
WORLDS = {
    "cartpole": World("CartPole-v1", 475, 81_920, {**_ARGS, "gamma": 0.99}),
    "cstr": World("cstr", 80, 245_760, {**_ARGS, "gamma": 0.95}, normalize=True),
    "pendulum": World("Pendulum-v1", -200, 102_400, {**_ARGS, "n_steps": 256, "gamma": 0.9}),
    "image": World("", 0.8, 30_720, {**_ARGS, "n_epochs": 4, "gamma": 0.99}, image=True),
}
SIGNALS = (1, 2, 3, 4)
"""Of the reactor; one of them is drawn for each episode."""


class Watch:
    """When training began, when the threshold was reached, and the last returns."""

    def __init__(self) -> None:
        self.threshold = float("inf")
        self.begun: float | None = None
        self.reached: float | None = None
        self.steps = 0
        self.returns: collections.deque[float] = collections.deque(maxlen=LAST)

    def begin(self) -> None:
        """Note the first reset; later ones change nothing."""
        self.begun = self.begun or time.time()

    def ended(self, episode_return: float) -> None:
        """Note the end of an episode."""
        self.returns.append(episode_return)
        if self.reached is None and len(self.returns) == LAST and self.mean >= self.threshold:
            self.reached = time.time()

    @property
    def mean(self) -> float:
        """Of the last episodes; nan before the first."""
        return sum(self.returns) / len(self.returns) if self.returns else float("nan")

    def report(self) -> None:
        """Print what the parent reads: the last line that begins like this."""
        known = {"begun": self.begun, "ended": time.time(), "reached": self.reached}
        print("\n" + json.dumps({**known, "steps": self.steps, "mean": self.mean}), flush=True)


WATCH = Watch()


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Tells the watch of steps and ends."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """See Gymnasium."""
        WATCH.begin()
        self._return = 0.0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """See Gymnasium."""
        found = super().step(action)
        WATCH.steps += 1
        self._return += float(found[1])
        if found[2] or found[3]:
            WATCH.ended(self._return)
        return found


class Catch(gym.Env[np.ndarray, np.int64]):
    """A ball falls over an image of 36 x 36; the paddle at its bottom catches it, or not.

    Observation: ``(36, 36, 1)`` uint8. Action: left, stay, right. Reward: 1 or -1 at the end,
    after eight steps. Source: Osband et al., "Behaviour suite for reinforcement learning" (2020),
    whose board has 10 x 5 cells; here it has 9 x 9 cells of 4 x 4 pixels.
    """

    CELLS, PIXELS = 9, 4
    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """See Gymnasium."""
        super().reset(seed=seed)
        self._ball = [0, int(self.np_random.integers(self.CELLS))]
        self._paddle = self.CELLS // 2
        return self._image(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See Gymnasium."""
        self._paddle = min(self.CELLS - 1, max(0, self._paddle + int(action) - 1))
        self._ball[0] += 1
        over = self._ball[0] == self.CELLS - 1
        reward = (1.0 if self._ball[1] == self._paddle else -1.0) if over else 0.0
        return self._image(), reward, over, False, {}

    def _image(self) -> np.ndarray:
        board = np.zeros((self.CELLS, self.CELLS), np.uint8)
        board[self._ball[0], self._ball[1]] = board[-1, self._paddle] = 255
        return np.kron(board, np.ones((self.PIXELS, self.PIXELS), np.uint8))[:, :, None]


class Signals(gym.Wrapper[Any, Any, Any, Any]):
    """Draws the reference of each of the reactor's episodes."""

    _chance: np.random.Generator | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """See Gymnasium."""
        if seed is not None or self._chance is None:
            self._chance = np.random.default_rng(seed)
        drawn = SIGNALS[int(self._chance.integers(len(SIGNALS)))]
        return super().reset(seed=seed, options={"Cref_signal": drawn})


def make(world: str, **_: object) -> gym.Env[Any, Any]:
    """A copy of a world."""
    if world == "cstr":
        from drillyard.simulators.cstr import CstrEnv

        return Watched(Signals(CstrEnv()))
    return Watched(Catch() if world == "image" else gym.make(WORLDS[world].inner))


for _name in WORLDS:
    if f"peers/{_name}-v0" not in gym.registry:
        gym.register(
            f"peers/{_name}-v0",
            entry_point=f"{__name__}:make",
            kwargs={"world": _name},
            disable_env_checker=True,
        )
