"""The networks of one training: acting on the host, judging and learning in compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from drillyard.learners.jax_engine import optimisers, programs
from drillyard.learners.jax_engine.host import Sampler, Stack
from drillyard.learners.jax_engine.network import read
from drillyard.learners.jax_engine.observations import Features
from drillyard.learners.jax_engine.programs import Numbers, Program, Told
from drillyard.learners.jax_engine.weights import Weights

LARGE = 1 << 22
"""Multiplications of a vectorised step from which on a GPU acts, and not the host. NumPy is done
with fewer in the time that a GPU needs to be asked; on a CPU it is never the slower one."""


def backend() -> str:
    """Where JAX computes: ``cpu`` or ``cuda``."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


class Core:
    """What PPO and A2C share.

    Args:
        model: Stable-Baselines3's, set up; its policy is made of views from here on.
        ratios: See ``Program``.
    """

    def __init__(self, model: Any, ratios: bool) -> None:
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
        self._seen = np.zeros((model.n_steps + 1, model.n_envs, self._features.size), np.float32)
        self._outcomes = np.zeros((2, model.n_steps, model.n_envs), np.float32)
        self._compiled = programs.compiled(self.program(normalize_advantage=False))
        multiplications = model.n_envs * sum(
            int(np.prod(p.shape))
            for p in self.network.places
            if p.name in {weight for weight, _ in self.network.actor}
        )
        self.acts_on_device = backend() != "cpu" and multiplications > LARGE
        self._on_device: Any = None

    def program(self, **flags: bool) -> Program:
        """A program of these networks.

        Args:
            **flags: The other fields of ``Program``.
        """
        return Program(self.network, self._optimiser, self._ratios, **flags)

    def begin(self) -> None:
        """Begin a rollout."""
        self.weights.adopt()
        self._sampler.begin(len(self._seen) - 1, self.network.unflatten(self.weights.values))
        if self.acts_on_device:
            self._on_device = jax.device_put(self.weights.values)

    def act(self, step: int, observations: Any) -> np.ndarray:
        """Actions for all copies, not clipped yet.

        Args:
            step: Of the rollout, from 0.
            observations: Of all copies; kept for ``judge``.
        """
        rows = self._features(observations, self._seen[step])
        if self.acts_on_device:
            outputs = np.asarray(self._compiled.act(self._on_device, rows))
        else:
            outputs = self._actor(rows)
        actions = self._sampler(outputs)
        if self.network.head.discrete:
            actions = actions.astype(self._dtype)
        return actions.reshape(-1, *self._shape)

    def expect(self, observations: Sequence[Any]) -> np.ndarray:
        """Values of single observations, (observations,)."""
        return self._critic(np.stack([self._features.one(one) for one in observations]))[:, 0]

    def judge(self, buffer: Any, after: Any, dones: np.ndarray) -> None:
        """Fill in what a rollout needs to be learned from.

        Args:
            buffer: Stable-Baselines3's, with actions, rewards and beginnings of episodes.
            after: Observations after the last step.
            dones: Of the last step.
        """
        self._features(after, self._seen[-1])
        self._outcomes[0] = buffer.rewards
        np.subtract(1.0, buffer.episode_starts[1:], out=self._outcomes[1, :-1])
        np.subtract(1.0, dones, out=self._outcomes[1, -1])
        found = self._compiled.judge(
            self.weights.values,
            self._seen,
            self._actions(buffer),
            self._outcomes,
            np.array([buffer.gamma, buffer.gae_lambda], np.float32),
        )
        buffer.values[:], buffer.log_probs[:], buffer.advantages[:] = np.asarray(found)
        np.add(buffer.advantages, buffer.values, out=buffer.returns)
        buffer.pos, buffer.full = len(buffer.rewards), True

    def batch(self, buffer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A judged rollout as rows, step after step: features, actions, the rest of ``Batch``."""
        rows = buffer.rewards.size
        rest = (buffer.advantages, buffer.returns, buffer.log_probs, buffer.values)
        return (
            self._seen[:-1].reshape(rows, -1),
            self._actions(buffer).reshape(rows, -1),
            np.stack([each.reshape(-1) for each in rest]),
        )

    def learn(self, program: Program, buffer: Any, order: np.ndarray, now: Numbers) -> Told:
        """Learn from a judged rollout.

        Args:
            program: Of ``program``.
            buffer: Of ``judge``.
            order: Rows of each minibatch, (minibatches, rows).
            now: Coefficients.

        Returns:
            What each minibatch said; those that were taken.
        """
        weights = self.weights
        state, steps, told = programs.compiled(program).learn(
            weights.state, weights.steps, *self.batch(buffer), order, np.array(now, np.float32)
        )
        weights.update(state, steps)
        found = np.asarray(told)
        return Told(*found[found[:, -1] > 0].T)

    def _actions(self, buffer: Any) -> np.ndarray:
        kind = np.int32 if self.network.head.discrete else np.float32
        actions: np.ndarray = buffer.actions.astype(kind)
        return actions
