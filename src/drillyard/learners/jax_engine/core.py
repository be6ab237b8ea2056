"""The networks of one training: they act on the host, and learn in compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from drillyard.learners.jax_engine import optimisers, programs
from drillyard.learners.jax_engine.host import Sampler, Stack
from drillyard.learners.jax_engine.network import read
from drillyard.learners.jax_engine.observations import Features
from drillyard.learners.jax_engine.programs import MinibatchMetrics, Numbers, Program
from drillyard.learners.jax_engine.weights import Weights
from drillyard.learners.types import Observation

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import RolloutBuffer
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

LARGE = 1 << 22
"""With at least this many multiplications in a vectorised step, a GPU acts, and not the host. With
fewer, NumPy is faster than a call of a GPU; on a CPU it is never slower than JAX."""


def backend() -> str:
    """Where JAX computes: ``cpu`` or ``cuda``."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


class Core:
    """The part that PPO and A2C share.

    Args:
        model: A model of Stable-Baselines3 that is set up; its parameters become views.
        ratios: See ``Program``.
    """

    def __init__(self, model: OnPolicyAlgorithm, ratios: bool) -> None:
        policy, self._ratios = model.policy, ratios
        self.network = read(policy)
        self.weights = Weights(policy, self.network)
        self._features = Features(model.observation_space)
        self._actor = Stack(self.network, self.network.actor, self.weights.values)
        self._critic = Stack(self.network, self.network.critic, self.weights.values)
        self._sampler = Sampler(self.network.head, model.n_envs)
        self._optimiser = optimisers.read(policy.optimizer)
        self._shape = model.action_space.shape
        self._dtype = model.action_space.dtype
        self._inputs = np.zeros((model.n_steps + 1, model.n_envs, self._features.size), np.float32)
        self._outcomes = np.zeros((2, model.n_steps, model.n_envs), np.float32)
        self._compiled = programs.compiled(self.program(normalize_advantage=False))
        multiplications = model.n_envs * sum(
            int(np.prod(p.shape))
            for p in self.network.places
            if p.name in {weight for weight, _ in self.network.actor}
        )
        self.acts_on_device = backend() != "cpu" and multiplications > LARGE
        self._on_device: jax.Array | None = None

    def program(self, **flags: bool) -> Program:
        """A program for these networks.

        Args:
            **flags: The other fields of ``Program``.
        """
        return Program(self.network, self._optimiser, self._ratios, **flags)

    def begin(self) -> None:
        """Begin a rollout."""
        self.weights.adopt()
        self._sampler.begin(len(self._inputs) - 1, self.network.unflatten(self.weights.values))
        if self.acts_on_device:
            self._on_device = jax.device_put(self.weights.values)

    def act(self, step: int, observations: Observation) -> np.ndarray:
        """The actions for all copies, not yet clipped.

        Args:
            step: The step of the rollout, from 0.
            observations: The observations of all copies; they are kept for ``judge``.
        """
        rows = self._features(observations, self._inputs[step])
        if self.acts_on_device:
            outputs = np.asarray(self._compiled.act(self._on_device, rows))
        else:
            outputs = self._actor(rows)
        actions = self._sampler(outputs)
        if self.network.head.discrete:
            actions = actions.astype(self._dtype)
        return actions.reshape(-1, *self._shape)

    def expect(self, observations: Sequence[Observation]) -> np.ndarray:
        """The values of single observations, (observations,)."""
        return self._critic(np.stack([self._features.one(o) for o in observations]))[:, 0]

    def judge(self, buffer: RolloutBuffer, after: Observation, dones: np.ndarray) -> None:
        """Add values, log-probabilities and advantages to a rollout.

        Args:
            buffer: Stable-Baselines3's buffer, with actions, rewards and beginnings of episodes.
            after: The observations after the last step.
            dones: The copies whose episode ended with the last step.
        """
        self._features(after, self._inputs[-1])
        self._outcomes[0] = buffer.rewards
        np.subtract(1.0, buffer.episode_starts[1:], out=self._outcomes[1, :-1])
        np.subtract(1.0, dones, out=self._outcomes[1, -1])
        judged = self._compiled.judge(
            self.weights.values,
            self._inputs,
            self._actions(buffer),
            self._outcomes,
            np.array([buffer.gamma, buffer.gae_lambda], np.float32),
        )
        buffer.values[:], buffer.log_probs[:], buffer.advantages[:] = np.asarray(judged)
        np.add(buffer.advantages, buffer.values, out=buffer.returns)
        buffer.pos, buffer.full = len(buffer.rewards), True

    def batch(self, buffer: RolloutBuffer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A judged rollout as rows, step by step: features, actions, and the rest of ``Batch``."""
        rows = buffer.rewards.size
        rest = (buffer.advantages, buffer.returns, buffer.log_probs, buffer.values)
        return (
            self._inputs[:-1].reshape(rows, -1),
            self._actions(buffer).reshape(rows, -1),
            np.stack([each.reshape(-1) for each in rest]),
        )

    def learn(
        self, program: Program, buffer: RolloutBuffer, order: np.ndarray, now: Numbers
    ) -> MinibatchMetrics:
        """Learn from a judged rollout.

        Args:
            program: A result of ``program``.
            buffer: A buffer after ``judge``.
            order: Rows of each minibatch, (minibatches, rows).
            now: Coefficients.

        Returns:
            The metrics of each minibatch that was used.
        """
        weights = self.weights
        state, steps, metrics = programs.compiled(program).learn(
            weights.state, weights.steps, *self.batch(buffer), order, np.array(now, np.float32)
        )
        weights.update(state, steps)
        return programs.taken(np.asarray(metrics))

    def _actions(self, buffer: RolloutBuffer) -> np.ndarray:
        kind = np.int32 if self.network.head.discrete else np.float32
        actions: np.ndarray = buffer.actions.astype(kind)
        return actions
