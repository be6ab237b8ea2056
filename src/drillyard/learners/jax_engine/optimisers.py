"""One step of torch's optimisers on flat vectors, in JAX.

Source: ``torch/optim/adam.py``, ``adamw.py`` and ``rmsprop.py`` of torch 2.13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import torch

Slots: TypeAlias = tuple[jax.Array, ...]
Setting: TypeAlias = float | tuple[float, float]


@dataclass(frozen=True)
class Optimiser:
    """A class of ``torch.optim`` and its settings without the learning rate."""

    name: str
    settings: tuple[tuple[str, Setting], ...]

    def number(self, name: str) -> float:
        """A setting that is one number."""
        value = dict(self.settings)[name]
        assert isinstance(value, int | float)
        return value


def read(optimiser: torch.optim.Optimizer) -> Optimiser:
    """Reads a torch optimiser.

    Args:
        optimiser: ``Adam``, ``AdamW`` or ``RMSprop``.
    """
    group, names = optimiser.param_groups[0], ("betas", "eps", "weight_decay", "alpha")
    settings = {name: group[name] for name in names if name in group}
    return Optimiser(
        type(optimiser).__name__,
        tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in settings.items()
        ),
    )


def step(
    optimiser: Optimiser,
    values: jax.Array,
    gradient: jax.Array,
    slots: Slots,
    steps: jax.Array,
    rate: float | jax.Array,
) -> tuple[jax.Array, Slots]:
    """The new parameters, and the new state of the optimiser.

    Args:
        optimiser: The optimiser.
        values: The parameters.
        gradient: The gradient of the loss, already clipped.
        slots: The state of the optimiser, in the order of ``weights.SLOTS``.
        steps: Number of steps so far, including this one.
        rate: The learning rate.
    """
    decay, eps = optimiser.number("weight_decay"), optimiser.number("eps")
    if decay and optimiser.name == "AdamW":
        values = values * (1 - rate * decay)
    elif decay:
        gradient = gradient + decay * values
    if optimiser.name == "RMSprop":
        keep = optimiser.number("alpha")
        square = keep * slots[0] + (1 - keep) * gradient * gradient
        values = values - rate * gradient / (jnp.sqrt(square) + eps)
        return values, (square,)
    betas = dict(optimiser.settings)["betas"]
    assert isinstance(betas, tuple)
    beta1, beta2 = betas
    mean = slots[0] + (1 - beta1) * (gradient - slots[0])
    square = beta2 * slots[1] + (1 - beta2) * gradient * gradient
    spread = jnp.sqrt(square) / jnp.sqrt(_gone(beta2, steps)) + eps
    values = values - rate / _gone(beta1, steps) * mean / spread
    return values, (mean, square)


def _gone(beta: float, steps: jax.Array) -> jax.Array:
    """``1 - beta ** steps`` without the rounding error of float32."""
    return -jnp.expm1(steps * math.log(beta))
