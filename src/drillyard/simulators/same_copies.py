"""Compares the vectorised form of a simulator with as many single copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from drillyard.errors import SimulatorError
from drillyard.simulators.make_copies import can_vectorise, make_vec
from drillyard.simulators.random_actions import drawing
from drillyard.simulators.streams import REPLAYED
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.watchdog import report_activity

COPIES = 3
STEPS = 60
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Differences that rounding makes: arrays are summed in another order, and in other types."""
_SEED = 2_718
_STREAMS = REPLAYED - 1
"""Before the version in which single copies alone have a separate seed for each episode."""


def must_agree(spec: SimulatorSpec) -> str:
    """Steps both forms from one seed with the same random actions.

    Args:
        spec: The simulator part of an experiment.

    Returns:
        What was compared; empty if the simulator has no vectorised form.

    Raises:
        SimulatorError: Observations, rewards or ends differ; with copy, step and both values.
    """
    if not can_vectorise(spec):
        return ""
    single = make_vec(spec, COPIES, _SEED, how="one-by-one", streams=_STREAMS)
    try:
        many = make_vec(spec, COPIES, _SEED, how="vectorised", streams=_STREAMS)
        try:
            single.action_space.seed(_SEED)
            report_activity("comparing the vectorised form with single copies")
            _compare("the first observation", 0, many.reset(), single.reset(), spec)
            draw = drawing(single)
            for step in range(1, STEPS + 1):
                report_activity(f"step {step} of the vectorised form and of single copies")
                actions = draw()
                theirs, ours = single.step(actions), many.step(actions)
                for what, a, b in zip(
                    ("the observation", "the reward", "the end"), ours, theirs, strict=False
                ):
                    _compare(what, step, a, b, spec)
        finally:
            many.close()
    finally:
        single.close()
    return f"{COPIES} copies at once agree with single ones over {STEPS} steps"


def _compare(what: str, step: int, ours: Any, theirs: Any, spec: SimulatorSpec) -> None:
    if isinstance(theirs, dict):
        for key, part in theirs.items():
            _compare(f"{what} {key!r}", step, ours[key], part, spec)
        return
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape == b.shape:
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        wrong = ~np.isclose(a, b, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True)
        if not wrong.any():
            return
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        values = f"is {a[where]:g} at once and {b[where]:g} for a single copy"
        difference = f"{what} of copy {where[0]} {values}, at step {step}"
    else:
        difference = f"{what} has shape {a.shape} at once and {b.shape} for single copies"
    raise SimulatorError(
        f"its vectorised form is another simulator: {difference} (seed {_SEED}, the same actions)",
        field="simulator.id",
        value=spec.id,
        allowed="a vectorised form with the numbers of the single one",
        hint="correct the class under `vectorised`, or write train.copies: one-by-one",
    )
