"""One step of torch's optimisers on flat vectors, in JAX.

Source: ``torch/optim/adam.py``, ``adamw.py`` and ``rmsprop.py`` of torch 2.13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

Slots = tuple[Any, ...]


@dataclass(frozen=True)
class Optimiser:
    """A class of ``torch.optim`` and its settings, but for the learning rate."""

    name: str
    settings: tuple[tuple[str, Any], ...]


def read(optimiser: Any) -> Optimiser:
    """What a torch optimiser is.

    Args:
        optimiser: ``Adam``, ``AdamW`` or ``RMSprop``.
    """
    group, wanted = optimiser.param_groups[0], ("betas", "eps", "weight_decay", "alpha")
    found = {name: group[name] for name in wanted if name in group}
    return Optimiser(
        type(optimiser).__name__,
        tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in found.items()
        ),
    )


def step(
    optimiser: Optimiser, values: Any, gradient: Any, slots: Slots, steps: Any, rate: Any
) -> tuple[Any, Slots]:
    """New parameters, and what the optimiser keeps.

    Args:
        optimiser: Which one.
        values: Parameters.
        gradient: Of the loss, cut already.
        slots: What it keeps, in the order of ``weights.SLOTS``.
        steps: Taken so far, with this one.
        rate: Learning rate.
    """
    given = dict(optimiser.settings)
    decay = given["weight_decay"]
    if decay and optimiser.name == "AdamW":
        values = values * (1 - rate * decay)
    elif decay:
        gradient = gradient + decay * values
    if optimiser.name == "RMSprop":
        keep = given["alpha"]
        square = keep * slots[0] + (1 - keep) * gradient * gradient
        values = values - rate * gradient / (jnp.sqrt(square) + given["eps"])
        return values, (square,)
    beta1, beta2 = given["betas"]
    mean = slots[0] + (1 - beta1) * (gradient - slots[0])
    square = beta2 * slots[1] + (1 - beta2) * gradient * gradient
    spread = jnp.sqrt(square) / jnp.sqrt(_gone(beta2, steps)) + given["eps"]
    values = values - rate / _gone(beta1, steps) * mean / spread
    return values, (mean, square)


def _gone(beta: float, steps: Any) -> Any:
    """``1 - beta ** steps``, without the digits that float32 would lose."""
    return -jnp.expm1(steps * math.log(beta))
