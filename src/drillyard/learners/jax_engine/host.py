"""The part of a policy that plays: forward passes and draws in NumPy, on the shared weights.

A call of a compiled program costs tens of microseconds before it computes anything; NumPy computes
a small network in that time. Values and log-probabilities of a rollout are computed together
afterwards (``programs``). Random numbers come from torch's generator, which barriers seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from drillyard.learners.jax_engine.activations import HOST
from drillyard.learners.jax_engine.network import LOG_STD, Head, Network

BLOCK = 1 << 16
"""About so many random numbers are drawn together."""

Forward = Callable[[np.ndarray], np.ndarray]


class Stack:
    """The layers of an actor or a critic.

    Args:
        network: The network that they belong to.
        layers: ``network.actor`` or ``network.critic``.
        values: The flat vector of parameters; each call reads it.
    """

    def __init__(
        self, network: Network, layers: tuple[tuple[str, str], ...], values: np.ndarray
    ) -> None:
        named = network.unflatten(values)
        self._layers = [(named[weight].T, named[bias]) for weight, bias in layers]
        self._activate = HOST[network.activation]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The outputs, (rows, outputs)."""
        *hidden, (weight, bias) = self._layers
        for each, add in hidden:
            rows = np.dot(rows, each)
            rows += add
            rows = self._activate(rows)
        rows = np.dot(rows, weight)
        rows += bias
        return rows


def noise(head: Head, shape: tuple[int, ...]) -> np.ndarray:
    """What actions are drawn with, float32, from torch's generator.

    Args:
        head: The distribution.
        shape: (steps, copies, ``head.outputs``).
    """
    if head.kind == "gaussian":
        return torch.randn(shape, dtype=torch.float32).numpy()
    # The largest of logits plus Gumbel noise is a draw from the softmax of the logits; a
    # logistic variable is the difference of two Gumbel ones (Maddison et al. 2014). Not in
    # float32: its smallest exponential variable is drawn once in sixteen million times.
    drawn = torch.empty(shape, dtype=torch.float64).exponential_().log_()
    if head.kind == "bernoulli":
        drawn -= torch.empty(shape, dtype=torch.float64).exponential_().log_()
    return drawn.neg_().float().numpy()


class Sampler:
    """Draws actions.

    Args:
        head: The distribution.
        copies: Number of copies of the simulator.
    """

    def __init__(self, head: Head, copies: int) -> None:
        self._head, self._copies = head, copies
        self._draw = getattr(self, f"_{head.kind}")
        ends = np.cumsum(head.sizes)
        self._parts = [
            slice(int(end) - size, int(end)) for end, size in zip(ends, head.sizes, strict=True)
        ]
        self._std = np.ones(head.outputs, np.float32)
        self._noise: list[np.ndarray] = []
        self._steps = 0

    def begin(self, steps: int, parameters: dict[str, np.ndarray]) -> None:
        """Begin a rollout.

        Args:
            steps: Number of its steps.
            parameters: The parameters of the policy, which do not change during the rollout.
        """
        self._noise, self._steps = [], steps
        if self._head.kind == "gaussian":
            self._std = np.exp(parameters[LOG_STD])

    def __call__(self, outputs: np.ndarray) -> np.ndarray:
        """An action for each row.

        Args:
            outputs: The outputs of the actor, (copies, ``head.outputs``).

        Raises:
            ValueError: They are not finite.
        """
        if not np.isfinite(np.vdot(outputs, outputs)) and not np.isfinite(outputs).all():
            raise ValueError("the actor's outputs do not satisfy the constraint of being finite")
        if not self._noise:
            self._noise = list(self._block()[::-1])
        actions: np.ndarray = self._draw(outputs, self._noise.pop())
        return actions

    def _block(self) -> np.ndarray:
        row = self._copies * self._head.outputs
        steps = max(1, min(self._steps, BLOCK // row))
        self._steps -= steps
        return noise(self._head, (steps, self._copies, self._head.outputs))

    def _gaussian(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        noise *= self._std
        noise += outputs
        return noise

    def _categorical(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        noise += outputs
        chosen: np.ndarray = noise.argmax(axis=1)
        return chosen

    def _categoricals(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        noise += outputs
        return np.stack([noise[:, part].argmax(axis=1) for part in self._parts], axis=1)

    def _bernoulli(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        drawn: np.ndarray = noise > -outputs
        return drawn
