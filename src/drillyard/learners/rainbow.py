"""The successors of DQN by name: duelling networks, prioritised replay, and both.

Sources: Wang et al., "Dueling network architectures for deep reinforcement learning" (2016),
equation 9; Schaul et al., "Prioritized experience replay" (2016), proportional variant; Hessel et
al., "Rainbow" (2018), without its noisy networks and its distribution of returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.dqn.policies import CnnPolicy, DQNPolicy, MultiInputPolicy, QNetwork

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecNormalize

ALPHA = 0.6
"""Exponent of the priorities: 0 is uniform sampling."""
BETA = 0.4
"""Share of the bias of the sampling that is corrected at the start; at the end it is all."""
_SMALLEST = 1e-6
"""Added to each priority, so that each step can be drawn again."""


class _Streams(torch.nn.Module):
    """Value and advantages from the last layer's features: Q = V + A - mean(A)."""

    def __init__(self, width: int, actions: int) -> None:
        super().__init__()
        self.value, self.advantage = torch.nn.Linear(width, 1), torch.nn.Linear(width, actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        advantage: torch.Tensor = self.advantage(features)
        value: torch.Tensor = self.value(features)
        return value + advantage - advantage.mean(dim=1, keepdim=True)


class DuelingNetwork(QNetwork):  # type: ignore[misc]
    """DQN's network with two heads, for the value and for the advantages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        body = create_mlp(self.features_dim, -1, self.net_arch, self.activation_fn)
        width = self.net_arch[-1] if self.net_arch else self.features_dim
        self.q_net = torch.nn.Sequential(*body, _Streams(width, int(self.action_space.n)))


class _Dueling:
    """A policy of DQN with duelling networks."""

    def make_q_net(self: DQNPolicy) -> DuelingNetwork:
        """Builds the network as DQN does, from another class."""
        kwargs = self._update_features_extractor(self.net_args, features_extractor=None)
        network: DuelingNetwork = DuelingNetwork(**kwargs).to(self.device)
        return network


class DuelingMlpPolicy(_Dueling, DQNPolicy):  # type: ignore[misc]
    """For flat observations."""


class DuelingCnnPolicy(_Dueling, CnnPolicy):  # type: ignore[misc]
    """For images."""


class DuelingMultiInputPolicy(_Dueling, MultiInputPolicy):  # type: ignore[misc]
    """For mappings."""


class DuelingDQN(sb3.DQN):  # type: ignore[misc]
    """DQN that learns the value of a state and the advantage of an action separately."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": DuelingMlpPolicy,
        "CnnPolicy": DuelingCnnPolicy,
        "MultiInputPolicy": DuelingMultiInputPolicy,
    }


class _SumTree:
    """Draws indices in proportion to their weights, in logarithmic time."""

    def __init__(self, size: int) -> None:
        self._first = 1 << max(0, size - 1).bit_length()
        self._sums = np.zeros(2 * self._first)

    def set(self, indices: np.ndarray, weights: np.ndarray) -> None:
        at = indices + self._first
        self._sums[at] = weights
        while at[0] > 1:
            at = np.unique(at >> 1)
            self._sums[at] = self._sums[2 * at] + self._sums[2 * at + 1]

    def draw(self, shares: np.ndarray) -> np.ndarray:
        """Indices at shares (0 to 1) of the total."""
        rest, at = shares * self._sums[1], np.ones(len(shares), dtype=np.int64)
        while at[0] < self._first:
            left = self._sums[2 * at]
            right = rest >= left
            rest, at = np.where(right, rest - left, rest), 2 * at + right
        return at - self._first

    def probability(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self._sums[indices + self._first] / self._sums[1])


class Prioritized:
    """A replay buffer that returns steps with large errors more often.

    A step of several copies has one priority: that of the copy that was drawn last.
    """

    buffer_size: int
    full: bool
    pos: int
    _get_samples: Callable[..., ReplayBufferSamples]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.priorities = np.zeros(self.buffer_size, dtype=np.float32)
        self._tree = _SumTree(self.buffer_size)
        self._largest = 1.0
        self.drawn = np.zeros(0, dtype=np.int64)

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Adds a step, with the largest priority so far."""
        row = np.array([self.pos])
        super().add(*args, **kwargs)  # type: ignore[misc]
        self._set(row, np.array([self._largest], dtype=np.float32))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draws steps in proportion to priority ** ALPHA, one from each of equal parts."""
        parts = (np.arange(batch_size) + np.random.rand(batch_size)) / batch_size
        rows = self.buffer_size if self.full else self.pos
        self.drawn = np.minimum(self._tree.draw(parts), rows - 1)
        return self._get_samples(self.drawn, env=env)

    def weights(self, beta: float) -> np.ndarray:
        """Weights that correct the unequal sampling of the last batch, at most 1, ``(batch,)``."""
        rows = self.buffer_size if self.full else self.pos
        each = (rows * self._tree.probability(self.drawn)) ** -beta
        return np.asarray(each / each.max(), dtype=np.float32)

    def update_priorities(self, errors: np.ndarray) -> None:
        """Set the priorities of the last sample from its absolute errors, ``(batch,)``."""
        priorities = errors.astype(np.float32) + _SMALLEST
        self._largest = max(self._largest, float(priorities.max()))
        self._set(self.drawn, priorities)

    def load_priorities(self, priorities: np.ndarray, largest: float) -> None:
        """Load the priorities of a checkpoint."""
        self._largest = largest
        self._set(np.arange(len(priorities)), priorities)

    @property
    def largest(self) -> float:
        """The largest priority so far."""
        return self._largest

    def _set(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        self.priorities[rows] = priorities
        # If a row was drawn twice, its last priority counts, here and in the tree.
        self._tree.set(rows, self.priorities[rows].astype(np.float64) ** ALPHA)


class PrioritizedReplayBuffer(Prioritized, ReplayBuffer):  # type: ignore[misc]
    """A prioritised buffer of single steps."""


class PrioritizedNStepBuffer(Prioritized, NStepReplayBuffer):  # type: ignore[misc]
    """A prioritised buffer of n-step returns."""


class PrioritizedDictBuffer(Prioritized, DictReplayBuffer):  # type: ignore[misc]
    """A prioritised buffer of observations that are mappings."""


class PrioritizedDQN(sb3.DQN):  # type: ignore[misc]
    """DQN that replays steps with large errors more often."""

    double = False
    replay_buffer_class: type[ReplayBuffer] | None
    replay_buffer_kwargs: dict[str, Any]

    def _setup_model(self) -> None:
        if self.replay_buffer_class is None:
            several = {"n_steps": self.n_steps, "gamma": self.gamma} if self.n_steps > 1 else {}
            self.replay_buffer_kwargs = {**self.replay_buffer_kwargs, **several}
            self.replay_buffer_class = (
                PrioritizedNStepBuffer
                if several
                else (
                    PrioritizedDictBuffer
                    if hasattr(self.observation_space, "spaces")
                    else PrioritizedReplayBuffer
                )
            )
        with warnings.catch_warnings():
            # SB3 warns that other buffers ignore `n_steps`; the ones above do not.
            warnings.filterwarnings("ignore", "`n_steps=", UserWarning)
            super()._setup_model()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Train as DQN, but with weighted errors, which become the new priorities."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        beta = 1.0 - (1.0 - BETA) * self._current_progress_remaining
        losses = []
        for _ in range(gradient_steps):
            buffer: Prioritized = self.replay_buffer
            data = buffer.sample(batch_size, env=self._vec_normalize_env)
            target, now = self._target(data), self.q_net(data.observations)
            now = now.gather(1, data.actions.long())
            errors = torch.nn.functional.smooth_l1_loss(now, target, reduction="none")
            weights = torch.as_tensor(buffer.weights(beta), device=self.device)
            loss = (weights * errors.squeeze(1)).mean()
            losses.append(loss.item())
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            buffer.update_priorities((target - now).detach().abs().squeeze(1).cpu().numpy())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _target(self, data: ReplayBufferSamples) -> torch.Tensor:
        """The target values of the chosen actions, ``(batch, 1)``."""
        discounts = data.discounts if data.discounts is not None else self.gamma
        with torch.no_grad():
            rated = self.q_net_target(data.next_observations)
            chooser = self.q_net(data.next_observations) if self.double else rated
            best = rated.gather(1, chooser.argmax(dim=1, keepdim=True))
            return torch.as_tensor(data.rewards + (1 - data.dones) * discounts * best)


class Rainbow(PrioritizedDQN):
    """DQN with double targets, duelling networks and prioritised replay."""

    double = True
    policy_aliases = DuelingDQN.policy_aliases
