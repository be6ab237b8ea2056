"""What the networks of a policy are: layers, distribution of actions, place of each parameter.

Everything here is read from the policy that Stable-Baselines3 built, and is hashable: programs are
compiled once for a network. Needs neither JAX nor torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

Kind = Literal["gaussian", "categorical", "categoricals", "bernoulli"]
LOG_STD = "log_std"


@dataclass(frozen=True)
class Place:
    """Where a parameter lies in the flat vector of all of them."""

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The first element after it."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class Head:
    """How actions are drawn from what the actor puts out.

    ``sizes`` are the numbers of choices (``categorical``, ``categoricals``), else the number of
    values of an action.
    """

    kind: Kind
    sizes: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """Values that the actor puts out for an observation."""
        return sum(self.sizes)

    @property
    def discrete(self) -> bool:
        """Actions are whole numbers."""
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
        """Parameters in all."""
        return self.places[-1].stop

    def unflatten(self, values: Any) -> dict[str, Any]:
        """The parameters by name; views where ``values`` is a NumPy array.

        Args:
            values: The flat vector, of NumPy or JAX.
        """
        return {p.name: values[p.start : p.stop].reshape(p.shape) for p in self.places}


def read(policy: Any) -> Network:
    """The networks of an ``ActorCriticPolicy``.

    Args:
        policy: With features that have no parameters of their own, and no gSDE.
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


def head(space: spaces.Space[Any]) -> Head:
    """The distribution that Stable-Baselines3 takes for an action space."""
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
    found = [name for name in weights if name.startswith(f"mlp_extractor.{hidden}.")]
    names = [name.removesuffix(".weight") for name in found]
    return tuple((f"{name}.weight", f"{name}.bias") for name in [*names, last])
