"""``engine: jax``: which of an algorithm's settings the compiled learner computes.

It has every argument of Stable-Baselines3's ``ppo`` and ``a2c`` but gSDE, and networks of dense
layers over flat observations. The rest is refused by name. Needs neither torch nor JAX.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from drillyard.errors import ConfigError
from drillyard.spec.algorithms.signatures import ACTIVATIONS, ARGUMENTS, OPTIMISERS, class_name
from drillyard.spec.learning import LearnerSpec

ALGORITHMS = ("ppo", "a2c")
_SDE = ("use_sde", "sde_sample_freq")
_NETWORK = (
    "net_arch",
    "activation_fn",
    "ortho_init",
    "log_std_init",
    "optimizer_class",
    "optimizer_kwargs",
)
_POLICIES = ("MlpPolicy", "MultiInputPolicy")
_WITH_WEIGHTS = frozenset({"PReLU"})
"""Activation functions that learn."""
OPTIMISER_SETTINGS: dict[str, tuple[str, ...]] = {
    "Adam": ("betas", "eps", "weight_decay"),
    "AdamW": ("betas", "eps", "weight_decay"),
    "RMSprop": ("alpha", "eps", "weight_decay"),
}
"""Class in ``torch.optim`` -> its settings, without the learning rate."""
WITHOUT = "leave it out, or delete `engine: jax`"


def problems(learner: LearnerSpec) -> Iterator[ConfigError]:
    """Everything about a learner that the compiled one does not do.

    Args:
        learner: A learner of one of ``ALGORITHMS``, with the arguments of the algorithm.
    """
    for name, value in learner.args.items():
        if name in _SDE and value != ARGUMENTS[learner.algorithm][name]:
            yield ConfigError(
                "is not offered with engine: jax",
                field=f"learner.args.{name}",
                value=value,
                allowed=json.dumps(ARGUMENTS[learner.algorithm][name]),
                hint=WITHOUT,
            )
    if learner.policy not in (None, *_POLICIES):
        yield ConfigError(
            "is not offered with engine: jax",
            field="learner.policy",
            value=learner.policy,
            allowed=", ".join(_POLICIES),
            hint=WITHOUT,
        )
    given = learner.args.get("policy_kwargs") or {}
    for name, value in given.items():
        yield from _of_network(f"learner.args.policy_kwargs.{name}", name, value, given)


def _of_network(field: str, name: str, value: Any, given: dict[str, Any]) -> Iterator[ConfigError]:
    not_offered = "is not offered with engine: jax"
    if name not in _NETWORK:
        yield ConfigError(
            not_offered, field=field, value=value, allowed=", ".join(_NETWORK), hint=WITHOUT
        )
    elif name == "activation_fn" and not _activation(value):
        able = [n for n, found in ACTIVATIONS.items() if found not in _WITH_WEIGHTS]
        yield ConfigError(
            not_offered, field=field, value=value, allowed=", ".join(able), hint=WITHOUT
        )
    elif name == "optimizer_class" and class_name(value, OPTIMISERS) not in OPTIMISER_SETTINGS:
        yield ConfigError(
            not_offered,
            field=field,
            value=value,
            hint=WITHOUT,
            allowed=", ".join(OPTIMISER_SETTINGS).lower(),
        )
    elif name == "optimizer_kwargs":
        kind = str(class_name(given.get("optimizer_class", "adam"), OPTIMISERS))
        known = OPTIMISER_SETTINGS.get(kind, ())
        for key, setting in (value or {}).items():
            if known and key not in known:
                yield ConfigError(
                    not_offered,
                    field=f"{field}.{key}",
                    value=setting,
                    allowed=", ".join(known),
                    hint=WITHOUT,
                )


def _activation(value: Any) -> bool:
    found = None if ":" in str(value) else class_name(value, ACTIVATIONS)
    return found is not None and found not in _WITH_WEIGHTS


def sees_images(observation: Any) -> bool:
    """Would Stable-Baselines3 put convolutions before an observation, or a part of it?

    Args:
        observation: Space of the wrapped simulator.
    """
    from gymnasium import spaces

    if isinstance(observation, spaces.Dict):
        return any(sees_images(part) for part in observation.spaces.values())
    return len(observation.shape or ()) == 3 and observation.dtype == "uint8"
