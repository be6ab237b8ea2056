"""The least and the greatest return of an episode, where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drillyard.documents.json_types import as_list, as_number

Ends = tuple[float, float]
KNOWN: Mapping[str, Ends] = {
    "CartPole-v0": (0.0, 200.0),
    "CartPole-v1": (0.0, 500.0),
    "MountainCar-v0": (-200.0, 0.0),
    "MountainCarContinuous-v0": (-99.9, 100.0),
    "Acrobot-v1": (-500.0, 0.0),
    "Pendulum-v1": (-3254.8, 0.0),
    "FrozenLake-v1": (0.0, 1.0),
    "FrozenLake8x8-v1": (0.0, 1.0),
}
"""Simulators of Gymnasium: the bounds of a step's reward times the registered time limit.

Pendulum: 200 steps that cost π² + 0.1 * 8² + 0.001 * 2² at most. MountainCarContinuous: 999 steps
that cost 0.1 at most, and 100 once.
"""


def return_range(simulator: Mapping[str, Any]) -> Ends | None:
    """``return_range`` of the file, or what the simulator's definition says; None if unknown.

    Args:
        simulator: The section ``simulator`` of a resolved experiment, as JSON.
    """
    low, high = [*map(as_number, as_list(simulator.get("return_range"))), None, None][:2]
    if low is not None and high is not None:
        return low, high
    # Arguments, wrappers and an agent of the file can change reward and time limit.
    if any(simulator.get(key) for key in ("args", "wrappers", "agent")):
        return None
    return KNOWN.get(str(simulator.get("id")))


def contradicted(simulator: Mapping[str, Any], returns: Sequence[float]) -> str | None:
    """Why a range cannot be used: a sentence without its period; None if all returns are in it.

    Args:
        simulator: As for ``return_range``.
        returns: Observed returns, or means of them.
    """
    known = return_range(simulator)
    if known is None:
        return None
    # The sum of many rewards is rounded.
    margin = 1e-6 * max(1.0, known[1] - known[0])
    outside = [v for v in returns if not known[0] - margin <= v <= known[1] + margin]
    if not outside:
        return None
    return (
        f"a return of {outside[0]:g} is outside simulator.return_range, {known[0]:g} to "
        f"{known[1]:g}, so no interval is cut; widen the range in the file"
    )
