"""The networks of a policy: layers, distribution of actions, position of each parameter.

Everything here is read from the policy that Stable-Baselines3 built, and is hashable: programs are
compiled once for a network. It needs neither JAX nor torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    import jax
    from stable_baselines3.common.policies import ActorCriticPolicy

    from drillyard.learners.types import Space

Kind = Literal["gaussian", "categorical", "categoricals", "bernoulli"]
LOG_STD = "log_std"
Array = TypeVar("Array", "np.ndarray", "jax.Array")


@dataclass(frozen=True)
class Place:
    """The position of a parameter in the flat vector of all parameters."""

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The index of the first element after it."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class Head:
    """How actions are drawn from the outputs of the actor.

    ``sizes`` are the numbers of choices (``categorical``, ``categoricals``), otherwise the number
    of values of an action.
    """

    kind: Kind
    sizes: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """Number of outputs of the actor for an observation."""
        return sum(self.sizes)

    @property
    def discrete(self) -> bool:
        """Whether actions are whole numbers."""
        return self.kind != "gaussian"


@dataclass(frozen=True)
class Network:
    """An actor and a critic without shared layers.

    ``actor`` and ``critic`` name the layers from the observation to the output, each as (weight,
    bias).
    """

    places: tuple[Place, ...]
    actor: tuple[tuple[str, str], ...]
    critic: tuple[tuple[str, str], ...]
    activation: str
    head: Head

    @property
    def size(self) -> int:
        """Number of all parameters."""
        return self.places[-1].stop

    def unflatten(self, values: Array) -> dict[str, Array]:
        """The parameters by name; they are views if ``values`` is a NumPy array.

        Args:
            values: The flat vector, of NumPy or JAX.
        """
        return {p.name: values[p.start : p.stop].reshape(p.shape) for p in self.places}


def read(policy: ActorCriticPolicy) -> Network:
    """Reads the networks of a policy.

    Args:
        policy: A policy without gSDE, whose feature extractor has no parameters.
    """
    places, start = [], 0
    for name, parameter in policy.named_parameters():
        places.append(Place(name, start, tuple(parameter.shape)))
        start = places[-1].stop
    return Network(
        tuple(places),
        _layers(places, "policy_net", "action_net"),
        _layers(places, "value_net", "value_net"),
        policy.activation_fn.__name__,
        head(policy.action_space),
    )


def head(space: Space) -> Head:
    """The distribution that Stable-Baselines3 uses for an action space."""
    if isinstance(space, spaces.Box):
        return Head("gaussian", (int(np.prod(space.shape)),))
    if isinstance(space, spaces.Discrete):
        return Head("categorical", (int(space.n),))
    if isinstance(space, spaces.MultiDiscrete):
        return Head("categoricals", tuple(int(n) for n in space.nvec))
    assert isinstance(space, spaces.MultiBinary)
    return Head("bernoulli", (int(np.prod(space.shape)),))


def _layers(places: list[Place], hidden: str, last: str) -> tuple[tuple[str, str], ...]:
    weights = [p.name for p in places if p.name.endswith(".weight")]
    inner = [name for name in weights if name.startswith(f"mlp_extractor.{hidden}.")]
    names = [name.removesuffix(".weight") for name in inner]
    return tuple((f"{name}.weight", f"{name}.bias") for name in [*names, last])
