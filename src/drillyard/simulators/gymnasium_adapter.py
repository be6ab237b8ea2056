"""Gymnasium's own vectorised environments, as drillyard's protocol wants them.

Gymnasium's have one generator for all copies and begin a copy anew one step late
(``NEXT_STEP``), which an on-policy learner would take for a step of the agent. So each needs an
adapter that begins a copy at once and from a generator of its own; an id whose vector entry point
has none here is stepped copy by copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from gymnasium.envs.classic_control import utils
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec

from drillyard.documents.json_types import Json
from drillyard.registry import load_object
from drillyard.simulators.batch_protocol import VectorSimulator
from drillyard.simulators.state import State
from drillyard.simulators.types import Info


class VecCartPole:
    """``CartPoleVectorEnv``; its episodes are those of as many single ``CartPole-v1``.

    Args:
        n: Copies.
        max_episode_steps: Longest episode.
        render_mode: See Gymnasium's ``CartPoleEnv``.
        sutton_barto_reward: See Gymnasium's ``CartPoleEnv``.
    """

    def __init__(
        self,
        n: int,
        max_episode_steps: int = 500,
        render_mode: str | None = None,
        sutton_barto_reward: bool = False,
    ) -> None:
        self._env = CartPoleVectorEnv(n, max_episode_steps, render_mode, sutton_barto_reward)
        self._env.reset(seed=0)
        self.observation_space = self._env.single_observation_space
        self.action_space = self._env.single_action_space
        self.rngs = [np.random.default_rng(copy) for copy in range(n)]

    def begin(self, copy: int, options: Mapping[str, Json]) -> None:
        """See ``VectorSimulator.begin``; ``low`` and ``high`` as Gymnasium has them."""
        low, high = utils.maybe_parse_reset_bounds(dict(options), -0.05, 0.05)
        self._state[:, copy] = self.rngs[copy].uniform(low=low, high=high, size=(4,))
        self._env.steps[copy] = 0
        self._env.prev_done[copy] = False  # otherwise it would begin this copy one step late

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``VectorSimulator.step``."""
        given = np.asarray(actions, np.int64).reshape(-1)
        _, rewards, terminated, truncated, _ = self._env.step(given)
        return rewards.astype(np.float64), terminated, truncated

    def observe(self) -> np.ndarray:
        """See ``VectorSimulator.observe``."""
        seen: np.ndarray = self._state.T.astype(np.float32)
        return seen

    def info(self, copy: int) -> Info:
        """A single copy has no info either."""
        del copy
        return {}

    def state(self) -> State:
        """See ``VectorSimulator.state``."""
        return {"state": self._state.copy(), "steps": self._env.steps.copy()}

    def load_state(self, state: State) -> None:
        """See ``VectorSimulator.load_state``."""
        self._state[:] = state["state"]
        self._env.steps[:] = state["steps"]

    @property
    def _state(self) -> np.ndarray:
        state = self._env.state
        assert state is not None
        return state


_ADAPTERS = {
    "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": (
        "drillyard.simulators.gymnasium_adapter:VecCartPole"
    ),
}
"""Vector entry point of a Gymnasium id -> class."""


def adapter(spec: EnvSpec) -> Callable[..., VectorSimulator] | None:
    """The factory of all copies of a Gymnasium id: (n, **args); None if there is none.

    Args:
        spec: What is registered under the id.
    """
    name = _ADAPTERS.get(str(spec.vector_entry_point))
    if name is None or spec.additional_wrappers:
        return None
    limit = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}

    def make(n: int, **args: Json) -> VectorSimulator:
        simulator: VectorSimulator = load_object(name)(n, **{**limit, **spec.kwargs, **args})
        return simulator

    return make
