"""Steps/s of a simulator, as a learner would step it."""

from __future__ import annotations

import time

import numpy as np

from drillyard.findings import Finding, passed
from drillyard.simulators.make_copies import can_vectorise, make_vec
from drillyard.simulators.random_actions import MASKS, drawing
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.system.watchdog import keep_alive, report_activity

AT_ONCE = 64
"""Copies, where they can be stepped together."""
SPEED_S = 0.3
"""Seconds that measuring the speed takes."""
_SEED = 12_345


def measure_speed(spec: SimulatorSpec, repeated: int | None = None) -> Finding:
    """Steps/s inside the learner's vectorised simulator, at random actions.

    Measures one copy, and 64 at once over arrays if the simulator can.

    Args:
        spec: The simulator part of an experiment.
        repeated: The most steps that a killed run repeats, if that is known.
    """
    with keep_alive("importing the learner's libraries"):
        import drillyard.simulators.vec_state  # noqa: F401  what `make_vec` imports takes seconds
    single = _speed(spec, 1)
    text = f"{single:,.0f} steps/s on one core, one copy"
    if can_vectorise(spec):
        with keep_alive("compiling what steps all copies at once"):
            rate = _speed(spec, AT_ONCE, "vectorised")
        text += f"; {rate:,.0f} steps/s with {AT_ONCE} at once"
    if repeated:
        text += (
            f"; the {repeated:,} steps that a killed run repeats take {repeated / single:.2g} s"
        )
    return passed("simulator: speed", text)


def _speed(spec: SimulatorSpec, copies: int, how: Way = "one-by-one") -> float:
    report_activity(f"measuring its speed, seed {_SEED}")
    venv = make_vec(spec, copies, _SEED, how=how)
    try:
        venv.reset()
        venv.action_space.seed(_SEED)
        masked, draw = venv.has_attr(MASKS), drawing(venv)
        actions = draw()
        venv.step(actions)  # compiled by then
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SPEED_S or steps < 10:
            # Drawing an action for each copy would take longer than a fast simulator's step.
            some = np.array([*actions[1:], venv.action_space.sample()])
            venv.step(draw() if masked else some)
            steps += 1
            if elapsed > 10 * SPEED_S:
                break
        return copies * steps / (time.perf_counter() - start)
    finally:
        venv.close()
