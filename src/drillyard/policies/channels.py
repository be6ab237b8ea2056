"""Names, units and ranges of what a policy sees and does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from drillyard.policies.bundles import Plant
from drillyard.simulators.channels import Channel
from drillyard.simulators.make import make_env
from drillyard.simulators.types import Observation
from drillyard.simulators.wrappers import layers
from drillyard.spec.learning import SimulatorSpec


def channels_of(
    spec: SimulatorSpec, observed: spaces.Space[Observation]
) -> dict[str, list[Channel]]:
    """The channels of a simulator as its policy meets it.

    Args:
        spec: With the wrappers of the training.
        observed: What the network sees, after frames were stacked.

    Returns:
        ``observation`` and ``action``: as the simulator declares them (``channels()``), where no
        wrapper stands between; else numbered.
    """
    env = make_env(spec, training=False)
    try:
        simulator = layers(env)[-1]
        declared = simulator.channels() if hasattr(simulator, "channels") else {}
        names = {"action": getattr(simulator, "metadata", {}).get("actions", ())}
        channels = {}
        for kind in ("observation", "action"):
            inner = getattr(simulator, f"{kind}_space")
            outer = observed if kind == "observation" else env.action_space
            named = declared.get(kind) if outer == inner else None
            channels[kind] = named or _numbered(kind, outer, names.get(kind, ()))
        return channels
    finally:
        env.close()


def plant_of(spec: SimulatorSpec) -> Plant:
    """What a simulator says about the plant that it stands for.

    Args:
        spec: The simulator, which may have the attributes ``step_seconds`` and ``hold_action``.
    """
    env = make_env(spec, training=False)
    try:
        simulator = layers(env)[-1]
        step = getattr(simulator, "step_seconds", None)
        hold = getattr(simulator, "hold_action", None)
        return {
            "step_s": float(step) if step else None,
            "hold": None if hold is None else np.ravel(hold).astype(float).tolist(),
        }
    finally:
        env.close()


def _numbered(kind: str, space: spaces.Space[Observation], names: Sequence[str]) -> list[Channel]:
    if isinstance(space, spaces.Dict):
        return [
            Channel(c.name.replace(kind, key, 1))
            for key, part in space.items()
            for c in _numbered(kind, part, ())
        ]
    n = int(np.prod(space.shape)) if space.shape else 1
    if n > 64:
        return []  # an image: its pixels have no names
    if len(names) == n:
        return [Channel(name) for name in names]
    return [Channel(kind if n == 1 else f"{kind}_{i}") for i in range(n)]
