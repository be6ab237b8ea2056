"""Baselines that act in the copies of an evaluation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from drillyard.agents.baselines import Baseline, Random, make_baseline
from drillyard.documents.json_types import JsonObject
from drillyard.simulators.make import make_env
from drillyard.simulators.random_actions import MASKS
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.evaluation.episodes import Observation


class BaselinePolicy:
    """A baseline for each copy."""

    def __init__(self, name: str, spec: SimulatorSpec, copies: int) -> None:
        self._each: list[Baseline] = []
        for _ in range(copies):
            env = make_env(spec, training=False)
            try:
                self._each.append(make_baseline(name, env))
            finally:
                env.close()

    def bind(self, venv: VecEnv) -> None:
        """Let ``random`` ask these copies which actions are possible.

        Everything else was read from separate copies.
        """
        for copy, baseline in enumerate(self._each):
            if isinstance(baseline, Random) and baseline.mask is not None:
                baseline.mask = partial(_mask_of, venv, copy)

    def begin(self, copy: int, seed: int, options: JsonObject) -> None:
        """Reset the baseline of the copy."""
        self._each[copy].reset(seed, options)

    def act(self, observations: Observation) -> np.ndarray:
        """The actions of all baselines."""
        return np.array([b.act(one_of(observations, i)) for i, b in enumerate(self._each)])


def _mask_of(venv: VecEnv, copy: int) -> Any:
    return venv.env_method(MASKS, indices=[copy])[0]


def one_of(observations: Observation, copy: int) -> Observation:
    """What one copy observes."""
    if isinstance(observations, dict):
        return {key: value[copy] for key, value in observations.items()}
    observation: Observation = observations[copy]
    return observation
