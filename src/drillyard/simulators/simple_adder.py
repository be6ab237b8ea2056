"""The smallest simulator that can be learnt: add numbers until the value is 50."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json, JsonObject
from drillyard.simulators.batch_protocol import must_be_one_of, number_of
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Info, Options

GOAL = 50.0
STEPS = 10
LARGEST_ADDEND = 10
START_LOW, START_HIGH = 0, 100


def addend(actions: Any, discrete: bool, xp: Any = np) -> Any:
    """What actions add, for floats and for arrays.

    Args:
        actions: Numbers of choices, or shares of the largest addend.
        discrete: Which of the two.
        xp: ``numpy``, or ``jax.numpy``.
    """
    if discrete:
        return actions - LARGEST_ADDEND
    return xp.rint(xp.clip(actions, -1.0, 1.0) * LARGEST_ADDEND)


def reward(value: Any) -> Any:
    """The reward after a step that led to this value."""
    return -abs(value - GOAL)


class SimpleAdderEnv(gym.Env[dict[str, Any], np.ndarray | np.integer]):
    """Ten steps to bring a value to 50.

    Observation, a Dict:

    | key   | shape | dtype   | meaning           | min  | max | unit |
    |-------|-------|---------|-------------------|------|-----|------|
    | value | (1,)  | float32 | the value so far  | -100 | 200 | 1    |

    Action, by ``actions``; both stand for an integer addend in [-10, 10] (Stable-Baselines3 has
    no Dict actions):

    | actions  | space             | addend            |
    |----------|-------------------|-------------------|
    | discrete | Discrete(21)      | action - 10       |
    | box      | Box(-1, 1, (1,))  | round(10 x action)|

    Reward: ``-|value - 50|`` after the addition. Never terminated; truncated after 10 steps.

    Reset keys: ``start``, the first value, 0 to 100; by default a random integer.

    ``info`` has ``state_value``, ``state_goal`` and ``state_addend``.

    Args:
        actions: Form of the action space: ``discrete`` (PPO, A2C, DQN) or ``box`` (also DDPG,
            TD3, SAC).
        render_mode: Always None.

    Version history: v0, the first. Its functional form (``copies: compiled``) has versions of its
    own: 1, the first, whose first values come from another generator.
    """

    metadata: ClassVar[JsonObject] = {  # type: ignore[misc]
        "render_modes": [],
        "units": {"state_value": "1", "state_goal": "1", "state_addend": "1"},
        "reference": {"state_value": "state_goal"},
        "actions": ["addend"],
    }
    reset_keys: ClassVar[tuple[str, ...]] = ("start",)
    max_episode_steps = STEPS
    vectorised = "drillyard.simulators.adder_vector:VecAdder"
    functional = "drillyard.simulators.functional.adder:Adder"

    def __init__(
        self, actions: Literal["discrete", "box"] = "discrete", render_mode: str | None = None
    ) -> None:
        must_be_one_of("form of actions", "actions", actions, ["discrete", "box"])
        self.render_mode = render_mode
        self._discrete = actions == "discrete"
        reach = STEPS * LARGEST_ADDEND
        self.observation_space = spaces.Dict(
            {"value": spaces.Box(START_LOW - reach, START_HIGH + reach, (1,), np.float32)}
        )
        self.action_space = (
            spaces.Discrete(2 * LARGEST_ADDEND + 1)
            if self._discrete
            else spaces.Box(-1.0, 1.0, (1,), np.float32)
        )
        self._value, self._steps = 0.0, 0

    def reset(
        self, *, seed: int | None = None, options: Options | None = None
    ) -> tuple[dict[str, np.ndarray], Info]:
        """Begin an episode.

        Raises:
            SimulatorError: An unknown key, or a start outside 0 to 100.
        """
        super().reset(seed=seed)
        self._value, self._steps = first_value(self.np_random, options or {}), 0
        return self._observation(), self._info(0)

    def step(
        self, action: np.ndarray | np.integer
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, Info]:
        """Adds, and counts the step."""
        given = np.asarray(action, np.float64).reshape(-1)[0]
        added = int(addend(given, self._discrete))
        self._value += added
        self._steps += 1
        over = self._steps >= STEPS
        return self._observation(), float(reward(self._value)), False, over, self._info(added)

    def state(self) -> State:
        """Value, steps and generator."""
        return {"value": self._value, "steps": self._steps, "rng": rng_state(self.np_random)}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._value, self._steps = float(state["value"]), int(state["steps"])
        load_rng(self.np_random, state["rng"])

    def _observation(self) -> dict[str, np.ndarray]:
        return {"value": np.array([self._value], dtype=np.float32)}

    def _info(self, addend: int) -> Info:
        return {"state_value": self._value, "state_goal": GOAL, "state_addend": addend}


def first_value(rng: np.random.Generator, options: Mapping[str, Json]) -> float:
    """What an episode begins with.

    Raises:
        SimulatorError: An unknown key, or a start outside 0 to 100.
    """
    # Drawn in any case, so that the next episode does not depend on the options of this one.
    drawn = float(rng.integers(START_LOW, START_HIGH + 1))
    ranges = {"start": (float(START_LOW), float(START_HIGH))}
    return number_of("simple-adder", options, ranges, {"start": drawn})["start"]
