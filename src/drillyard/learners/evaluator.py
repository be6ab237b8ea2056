"""Evaluation while training, on separate simulators and without an effect on the training."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from drillyard.agents.playing import Playing
from drillyard.evaluation.episodes import EpisodesUnderWay, Planned
from drillyard.learners.barriers import preserved_randomness
from drillyard.learners.plan import Plan
from drillyard.learners.types import Env, HasPolicy
from drillyard.runs.workload import StopSignal
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.vec_state import load_normalisation, normalisation
from drillyard.simulators.wrappers import Scripted
from drillyard.spec import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import Lesson, draw_in_order

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

_WORD = 0x6576616C
"""Separates these episodes, which choose the best policy, from those of the final evaluation."""
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
        self._planned = [
            Planned(i, _episode_seed(i), draw_in_order(lesson, _WORD, i)) for i in range(episodes)
        ]
        self._metrics = tuple(simulator.metrics)
        self._copies: list[Scripted] = []
        self._deterministic = deterministic
        self._stop = stop
        self._playing: Playing | None = None
        self._n = max(1, min(episodes, copies, MAX_COPIES))
        self._venv = make_vec(simulator, self._n, 0, training=False, around=self._around)

    def _around(self, env: Env, copy: int) -> Env:
        episodes = [(p.seed, p.options) for p in self._planned[copy :: self._n]]
        self._copies.append(Scripted(env, episodes, lambda *_: self._begin(copy)))
        return self._copies[-1]

    def _begin(self, copy: int) -> None:
        if self._playing is not None:
            self._playing.begin(copy)

    def run(self, model: HasPolicy, training: VecEnv | None) -> Score:
        """Evaluate a model as it is now.

        Args:
            model: The SB3 algorithm.
            training: The training's VecEnv, whose normalisation is used and not changed; None
                where there is none.

        Raises:
            Stopped: A stop was requested.
            RunFailed: An episode does not end, or a number is not finite.
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
        for copy in self._copies:
            copy.restart()
        self._playing = playing = Playing(model.policy, self._deterministic, self._venv)
        under_way = EpisodesUnderWay(self._venv, self._planned, "agent", {})
        while len(under_way.ended) < len(self._planned):
            self._stop.check()
            under_way.step(playing.act(under_way.observations))
        episodes = under_way.result().episodes
        return Score(
            [episode.episode_return for episode in episodes],
            [episode.length for episode in episodes],
            [{key: episode.metrics[key] for key in self._metrics} for episode in episodes],
        )

    def close(self) -> None:
        """Close the simulators."""
        self._venv.close()


def _episode_seed(index: int) -> int:
    return int(np.random.SeedSequence([_WORD, index]).generate_state(1)[0]) & 0x7FFFFFFF
