"""Evaluation while training: on simulators of its own, unnoticed by the training."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from drillyard.agents.playing import Playing
from drillyard.errors import SimulatorError
from drillyard.learners.barriers import preserved_randomness
from drillyard.runs.phases import StopSignal
from drillyard.simulators.make import make_vec
from drillyard.simulators.vec_state import load_normalisation, normalisation
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import draw_in_order

_WORD = 0x6576616C
"""Keeps these episodes apart from those of the final evaluation: the best is chosen by them."""
MAX_STEPS = 1_000_000
MAX_COPIES = 8


@dataclass(frozen=True)
class Score:
    """What an evaluation found."""

    returns: list[float]
    lengths: list[int]
    own: list[dict[str, float]] = field(default_factory=list)
    """``simulator.metrics`` of each episode."""

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    def metrics(self) -> dict[str, float]:
        """By Stable-Baselines3's names."""
        names = self.own[0] if self.own else {}
        return {
            "eval/mean_reward": self.mean_return,
            "eval/std_reward": float(np.std(self.returns)),
            "eval/mean_ep_length": float(np.mean(self.lengths)),
            **{f"eval/{name}": float(np.mean([e[name] for e in self.own])) for name in names},
        }


class _Fixed(gym.Wrapper[Any, Any, Any, Any]):
    """Begins the episodes of a queue, whatever the reset says."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.queue: deque[tuple[int, dict[str, Any]]] = deque()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        # The last one is begun again for a caller that steps all copies until the slowest ends.
        own = self.queue.popleft() if len(self.queue) > 1 else self.queue[0]
        return self.env.reset(seed=own[0], options=dict(own[1]))


class Evaluator:
    """Evaluates a learning policy on the same episodes each time.

    Args:
        simulator: The world, with the training's wrappers.
        lesson: Reset values; ``values`` are gone through in order.
        episodes: Episodes of each evaluation.
        copies: At most so many simulators side by side.
        deterministic: Act without exploration noise.
        stop: Looked at before every step.
    """

    def __init__(
        self,
        simulator: SimulatorSpec,
        lesson: dict[str, Any],
        episodes: int,
        copies: int,
        deterministic: bool,
        stop: StopSignal,
    ) -> None:
        self._episodes = [
            (_episode_seed(i), draw_in_order(lesson, _WORD, i)) for i in range(episodes)
        ]
        self._copies: list[_Fixed] = []
        self._deterministic = deterministic
        self._stop = stop
        self._venv = make_vec(
            simulator,
            max(1, min(episodes, copies, MAX_COPIES)),
            0,
            training=False,
            around=self._around,
        )

    def _around(self, env: gym.Env[Any, Any], _copy: int) -> gym.Env[Any, Any]:
        self._copies.append(_Fixed(env))
        return self._copies[-1]

    def run(self, model: Any, training: Any) -> Score:
        """Evaluate a model as it is now.

        Args:
            model: The SB3 algorithm.
            training: The training's VecEnv, whose normalisation is used and not changed.

        Raises:
            Stopped: A stop was asked for.
            SimulatorError: An episode does not end.
        """
        statistics = normalisation(training)
        if statistics is not None:
            load_normalisation(self._venv, statistics)
        with preserved_randomness():
            # Whatever draws from the global generators draws the same in every evaluation.
            random.seed(_WORD)
            np.random.seed(_WORD)
            torch.manual_seed(_WORD)
            return self._play(model)

    def _play(self, model: Any) -> Score:
        n = len(self._copies)
        for copy, fixed in enumerate(self._copies):
            fixed.queue = deque(self._episodes[copy::n])
        wanted = [len(fixed.queue) for fixed in self._copies]
        found: list[list[tuple[float, int, dict[str, float]]]] = [[] for _ in range(n)]
        observation = self._venv.reset()
        playing = Playing(model.policy, self._deterministic, self._venv)
        for copy in range(n):
            playing.begin(copy)
        for _ in range(MAX_STEPS):
            self._stop.check()
            observation, _, dones, infos = self._venv.step(playing.act(observation))
            for copy in (int(i) for i in np.flatnonzero(dones)):
                playing.begin(copy)
                if len(found[copy]) < wanted[copy]:
                    end = infos[copy]["episode"]
                    own = infos[copy].get("metrics", {})
                    found[copy].append((float(end["r"]), int(end["l"]), own))
            if all(len(f) >= w for f, w in zip(found, wanted, strict=True)):
                flat = [found[i % n][i // n] for i in range(len(self._episodes))]
                returns, lengths, own = (list(part) for part in zip(*flat, strict=True))
                return Score(returns, lengths, own)
        raise SimulatorError(
            f"an evaluation episode did not end within {MAX_STEPS:,} steps",
            hint="add the wrapper time_limit {max_episode_steps: …}",
        )

    def close(self) -> None:
        """Close the simulators."""
        self._venv.close()


def _episode_seed(index: int) -> int:
    return int(np.random.SeedSequence([_WORD, index]).generate_state(1)[0]) & 0x7FFFFFFF
