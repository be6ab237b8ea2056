"""Evaluation while training, on separate simulators and without an effect on the training."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from drillyard.agents.playing import Playing
from drillyard.errors import SimulatorError
from drillyard.learners.barriers import preserved_randomness
from drillyard.learners.plan import Plan
from drillyard.learners.types import Env, HasPolicy, Info, Layer, Observation
from drillyard.runs.workload import StopSignal
from drillyard.simulators.make import make_vec
from drillyard.simulators.vec_state import load_normalisation, normalisation
from drillyard.spec import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import Lesson, draw_in_order

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

_WORD = 0x6576616C
"""Separates these episodes, which choose the best policy, from those of the final evaluation."""
MAX_STEPS = 1_000_000
MAX_COPIES = 8


@dataclass(frozen=True)
class Score:
    """The result of an evaluation."""

    returns: list[float]
    lengths: list[int]
    simulator: list[dict[str, float]] = field(default_factory=list)
    """``simulator.metrics`` of each episode."""

    @property
    def mean_return(self) -> float:
        """The mean of the returns."""
        return float(np.mean(self.returns))

    def metrics(self) -> dict[str, float]:
        """The metrics by the names that Stable-Baselines3 uses."""
        names = self.simulator[0] if self.simulator else {}
        return {
            "eval/mean_reward": self.mean_return,
            "eval/std_reward": float(np.std(self.returns)),
            "eval/mean_ep_length": float(np.mean(self.lengths)),
            **{
                f"eval/{name}": float(np.mean([e[name] for e in self.simulator])) for name in names
            },
        }


class _Fixed(Layer):
    """Begins the episodes of a queue, whatever the arguments of the reset are."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.queue: deque[tuple[int, Lesson]] = deque()

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observation, Info]:
        # The last episode is repeated for a caller that steps all copies until the slowest ends.
        episode = self.queue.popleft() if len(self.queue) > 1 else self.queue[0]
        return self.env.reset(seed=episode[0], options=dict(episode[1]))


def evaluator_of(
    spec: ExperimentSpec, simulator: SimulatorSpec, plan: Plan, n_envs: int, stop: StopSignal
) -> Evaluator:
    """The evaluator that an experiment asks for, beside the learner.

    Args:
        spec: The experiment.
        simulator: Its simulator.
        plan: The plan of the training.
        n_envs: Number of copies of the training.
        stop: Ends an evaluation.
    """
    lesson = spec.evaluate.lesson
    return Evaluator(
        simulator,
        simulator.lesson_of_stage(-1) if lesson is None else lesson,
        plan.evaluate_episodes,
        n_envs,
        spec.evaluate.deterministic,
        stop,
    )


class Evaluator:
    """Evaluates a learning policy on the same episodes each time.

    Args:
        simulator: The simulator, with the training's wrappers.
        lesson: Reset values; ``values`` are taken in order.
        episodes: Number of episodes of each evaluation.
        copies: Maximum number of simulators that are stepped together.
        deterministic: Act without exploration noise.
        stop: Checked before every step.
    """

    def __init__(
        self,
        simulator: SimulatorSpec,
        lesson: Lesson,
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

    def _around(self, env: Env, _copy: int) -> Env:
        self._copies.append(_Fixed(env))
        return self._copies[-1]

    def run(self, model: HasPolicy, training: VecEnv | None) -> Score:
        """Evaluate a model as it is now.

        Args:
            model: The SB3 algorithm.
            training: The training's VecEnv, whose normalisation is used and not changed; None
                where there is none.

        Raises:
            Stopped: A stop was requested.
            SimulatorError: An episode does not end.
        """
        statistics = normalisation(training)
        if statistics is not None:
            load_normalisation(self._venv, statistics)
        with preserved_randomness():
            # Code that draws from the global generators draws the same in every evaluation.
            random.seed(_WORD)
            np.random.seed(_WORD)
            torch.manual_seed(_WORD)
            return self._play(model)

    def _play(self, model: HasPolicy) -> Score:
        n = len(self._copies)
        for copy, fixed in enumerate(self._copies):
            fixed.queue = deque(self._episodes[copy::n])
        planned = [len(fixed.queue) for fixed in self._copies]
        played: list[list[tuple[float, int, dict[str, float]]]] = [[] for _ in range(n)]
        observation = self._venv.reset()
        playing = Playing(model.policy, self._deterministic, self._venv)
        for copy in range(n):
            playing.begin(copy)
        for _ in range(MAX_STEPS):
            self._stop.check()
            observation, _, dones, infos = self._venv.step(playing.act(observation))
            for copy in (int(i) for i in np.flatnonzero(dones)):
                playing.begin(copy)
                if len(played[copy]) < planned[copy]:
                    end = infos[copy]["episode"]
                    metrics = infos[copy].get("metrics", {})
                    played[copy].append((float(end["r"]), int(end["l"]), metrics))
            if all(len(p) >= n for p, n in zip(played, planned, strict=True)):
                flat = [played[i % n][i // n] for i in range(len(self._episodes))]
                returns, lengths, metrics = (list(part) for part in zip(*flat, strict=True))
                return Score(returns, lengths, metrics)
        raise SimulatorError(
            f"an evaluation episode did not end within {MAX_STEPS:,} steps",
            hint="add the wrapper time_limit {max_episode_steps: …}",
        )

    def close(self) -> None:
        """Close the simulators."""
        self._venv.close()


def _episode_seed(index: int) -> int:
    return int(np.random.SeedSequence([_WORD, index]).generate_state(1)[0]) & 0x7FFFFFFF
