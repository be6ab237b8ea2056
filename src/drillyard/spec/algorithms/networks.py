"""Checks of ``policy_kwargs`` and of spaces, without torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.spec.algorithms.argument_table import ARGUMENTS, SCHEDULED
from drillyard.spec.algorithms.policy_arguments import _CLASSES
from drillyard.spec.algorithms.signatures import (
    ACTION_SPACES,
    MORE_POLICIES,
    ON_POLICY,
    OTHER_POLICIES,
    POLICIES,
)

MAX_PARAMETERS = 100_000_000


def classes(policy: str | None, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, ``module:name``) of everything that a learner takes from elsewhere.

    Args:
        policy: ``learner.policy``.
        args: ``learner.args``, checked.
    """
    if policy is not None and ":" in policy:
        yield "learner.policy", policy
    for key, value in (args.get("policy_kwargs") or {}).items():
        if key in _CLASSES and isinstance(value, str) and ":" in value:
            yield f"learner.args.policy_kwargs.{key}", value
    for key in SCHEDULED:
        given = args.get(key)
        path = given.get("name") if isinstance(given, Mapping) else given
        if isinstance(path, str) and ":" in path:
            yield f"learner.args.{key}", path


def count_parameters(net_arch: Any, inputs: int, outputs: int) -> int:
    """Weights of the two networks of an MLP policy, about.

    Args:
        net_arch: ``policy_kwargs.net_arch``, checked; None for the default.
        inputs: Length of the flat observation.
        outputs: Length of the flat action.
    """
    arch = [64, 64] if net_arch is None else net_arch
    parts = list(arch.values()) if isinstance(arch, Mapping) else [arch, arch]
    total = 0
    for widths in parts:
        sizes = [inputs, *widths, outputs]
        total += sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    return total


def _length(space: Any) -> int:
    """Length of a flat sample."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return sum(_length(s) for s in space.spaces.values())
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return math.prod(space.shape or (1,))


def sample_bytes(space: Any) -> int:
    """Bytes of one observation in a buffer."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return sum(sample_bytes(s) for s in space.spaces.values())
    return math.prod(space.shape or (1,)) * (space.dtype.itemsize if space.dtype else 8)


def check_spaces(
    algorithm: str, policy: str | None, args: Mapping[str, Any], observation: Any, action: Any
) -> None:
    """Checks that an algorithm supports the spaces of a simulator.

    Args:
        algorithm: A built-in's name.
        policy: ``learner.policy``.
        args: ``learner.args``, checked.
        observation: Observation space of the wrapped simulator.
        action: Its action space.

    Raises:
        SpaceMismatch: It cannot.
        ConfigError: A network that is too large.
    """
    from gymnasium import spaces

    _check_actions(algorithm, action)
    _check_policy(algorithm, policy, observation)
    if args.get("use_sde") and not isinstance(action, spaces.Box):
        raise SpaceMismatch(
            "use_sde needs continuous actions",
            field="learner.args.use_sde",
            value=True,
            allowed="false for this simulator",
            hint="set use_sde: false",
        )
    several = args.get("n_steps", 1) > 1 and algorithm not in ON_POLICY
    if several and isinstance(observation, spaces.Dict):
        raise SpaceMismatch(
            "returns of several steps are not offered for observations that are mappings",
            field="learner.args.n_steps",
            value=args["n_steps"],
            allowed="1 for this simulator",
            hint="set n_steps: 1, or flatten them (simulator.wrappers: [flatten_observation])",
        )
    arch = (args.get("policy_kwargs") or {}).get("net_arch")
    parameters = count_parameters(arch, _length(observation), _length(action))
    if parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"the networks would have {parameters:,} parameters",
            field="learner.args.policy_kwargs.net_arch",
            value=arch,
            allowed=f"at most {MAX_PARAMETERS:,}",
        )


def _check_actions(algorithm: str, action: Any) -> None:
    import numpy as np

    kind = type(action).__name__
    if kind not in ACTION_SPACES[algorithm]:
        able = [a for a, kinds in ACTION_SPACES.items() if kind in kinds]
        instead = "wrap the simulator so that its actions are Box or Discrete"
        if kind in ("Dict", "Tuple"):
            instead = "write simulator.wrappers: [flatten_action]"
        raise SpaceMismatch(
            f"{algorithm} cannot act in this simulator: its action space is "
            f"{space_text(action)}, and {algorithm} needs {' or '.join(ACTION_SPACES[algorithm])}",
            field="learner.algorithm",
            value=algorithm,
            allowed=f"for {kind} actions: {', '.join(able) or 'none'}",
            hint=f"write algorithm: {able[0]}" if able else instead,
        )
    wrong = partial(SpaceMismatch, field="simulator.id")
    if math.prod(action.shape or (1,)) == 0:
        raise wrong(
            f"the action space {space_text(action)} is empty: there is nothing to choose",
            allowed="at least one action",
            hint="give the simulator an action",
        )
    if kind == "Box" and not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise wrong(
            f"the action space {space_text(action)} has an infinite bound",
            allowed="finite bounds",
            hint="give it finite bounds (gymnasium.wrappers:RescaleAction helps)",
        )


def _check_policy(algorithm: str, policy: str | None, observation: Any) -> None:
    if policy is not None and ":" in policy:
        return
    names, auto = own_policies(algorithm), auto_policy(observation, algorithm)
    if policy is None:
        return
    more = MORE_POLICIES.get(algorithm, ())
    known = [*names.values(), *more]
    if policy not in known:
        raise ConfigError("no such policy", field="learner.policy", value=policy, known=known)
    kinds = [kind for kind, name in names.items() if name == policy]
    # An image may be flattened; nothing else may be taken for another thing.
    flat = (policy in more or kinds == ["MlpPolicy"]) and auto != names.get("MultiInputPolicy")
    if policy != auto and not flat:
        raise SpaceMismatch(
            f"{policy} does not support these observations: {space_text(observation)}",
            field="learner.policy",
            value=policy,
            allowed=f"{auto}, module:Class, or null",
            hint=f"write learner.policy: {auto}, or remove it",
        )


def own_policies(algorithm: str) -> dict[str, str]:
    """Which of ``POLICIES`` an algorithm has -> what it calls it."""
    return OTHER_POLICIES.get(algorithm, {name: name for name in POLICIES})


def auto_policy(observation: Any, algorithm: str = "ppo") -> str:
    """The policy that fits an observation space.

    Args:
        observation: The space.
        algorithm: A built-in's name.

    Raises:
        SpaceMismatch: Something that looks like an image and is none that a CNN can take, or a
            space for which the algorithm has no network.
    """
    kind, names = _kind_of_policy(observation), own_policies(algorithm)
    if kind not in names:
        raise SpaceMismatch(
            f"{algorithm} has no network for images or mappings: {space_text(observation)}",
            field="learner.algorithm",
            value=algorithm,
            allowed="; ".join(a for a in ACTION_SPACES if kind in own_policies(a)),
            hint="flatten it (simulator.wrappers: [flatten_observation]), or choose another",
        )
    return names[kind]


def _kind_of_policy(observation: Any) -> str:
    from gymnasium import spaces

    if isinstance(observation, spaces.Dict):
        return "MultiInputPolicy"
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 3:
        return "MlpPolicy"
    if observation.dtype == "uint8" and not is_image(observation):
        return "MlpPolicy"  # counts, not brightness: a convolutional network takes 0 to 255
    flatten = "flatten it (gymnasium.wrappers:FlattenObservation)"
    wrong = partial(SpaceMismatch, field="simulator.id", allowed="uint8, channels first or last")
    if observation.dtype != "uint8":
        raise wrong(
            f"an image observation is uint8 from 0 to 255, not {observation.dtype}",
            hint=f"return uint8, or {flatten}",
        )
    if min(observation.shape) > 16 or observation.shape.index(min(observation.shape)) == 1:
        raise wrong(
            f"an image observation has its channels first or last, and this one is "
            f"{observation.shape}",
            hint=f"transpose it (gymnasium.wrappers:TransformObservation), or {flatten}",
        )
    return "CnnPolicy"


NATURE_CNN = 36
"""Fewest rows and columns that the three convolutions of ``nature_cnn`` take: kernels of 8, 4 and
3 at strides of 4, 2 and 1."""


def is_image(observation: Any) -> bool:
    """Returns whether Stable-Baselines3 takes a space for an image: 3 axes, uint8, 0 to 255."""
    from gymnasium import spaces

    return (
        isinstance(observation, spaces.Box)
        and len(observation.shape) == 3
        and observation.dtype == "uint8"
        and bool((observation.low == 0).all() and (observation.high == 255).all())
    )


def has_small_image(observation: Any) -> bool:
    """Returns whether an image of an observation is too small for ``nature_cnn``."""
    from gymnasium import spaces

    if isinstance(observation, spaces.Dict):
        return any(map(has_small_image, observation.spaces.values()))
    if not is_image(observation):
        return False
    rows_and_columns = sorted(observation.shape)[1:]  # the channels are the smallest axis
    return bool(min(rows_and_columns) < NATURE_CNN)


def takes_small_network(policy: str, args: Mapping[str, Any], observation: Any) -> bool:
    """Returns whether a policy gets a network for small images.

    Args:
        policy: Name of the policy, as the algorithm calls it.
        args: ``learner.args``. A ``features_extractor_class`` of the user's is kept.
        observation: The observation space, channels first or last.
    """
    given = args.get("policy_kwargs") or {}
    seen = policy.startswith(("Cnn", "MultiInput")) and ":" not in policy
    return seen and "features_extractor_class" not in given and has_small_image(observation)


def check_memory(
    algorithm: str, args: Mapping[str, Any], observation: Any, action: Any, ram_bytes: int
) -> None:
    """Check that the replay buffer fits into memory.

    Raises:
        ConfigError: It does not; with both numbers.
    """
    if "buffer_size" not in ARGUMENTS[algorithm]:
        return
    size = int(args.get("buffer_size", ARGUMENTS[algorithm]["buffer_size"]))
    copies = 1 if args.get("optimize_memory_usage") else 2
    row = copies * sample_bytes(observation) + 4 * math.prod(action.shape or (1,)) + 12
    if size * row > ram_bytes:
        fits = int(0.8 * ram_bytes / row)
        raise ConfigError(
            f"the replay buffer would need {size * row / 2**30:.1f} GiB, and this machine has "
            f"{ram_bytes / 2**30:.1f} GiB",
            field="learner.args.buffer_size",
            value=size,
            allowed=f"at most about {fits:,}",
            hint=f"set buffer_size: {fits}",
        )
