"""Tests whether the state that a model serialises is complete; tools often forget a part."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from drillyard.simulators.fmu.plant import Plant, Setting, StatefulPlant
from drillyard.spec.agent import Act
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

BEFORE, AFTER = 8, 16
"""Steps before the state is saved, and after it was loaded."""
_KNOWN: dict[str, str] = {}


def incompleteness(setting: Setting, reads: list[str], acts: Mapping[str, Act]) -> str:
    """Saves, steps, loads into new instances and steps again: every number must be the same.

    Args:
        setting: The plant; all of its models say that they can serialise their state.
        reads: Names of its states.
        acts: The actions and their ranges.

    Returns:
        The first difference; empty if there is none. It is computed once in a process.
    """
    setting = replace(setting, ends=None)  # the model goes on where an episode ends
    wiring = setting.wiring
    hashes = {name: model.sha256 for name, model in wiring.models.items()}
    rest = {**vars(setting), "wiring": (hashes, wiring.names, wiring.connections)}
    key = repr((rest, sorted(acts.items())))
    if key not in _KNOWN:
        try:
            _KNOWN[key] = _difference(setting, reads, acts)
        except Exception as error:  # whatever the model does there, it may do without its state
            _KNOWN[key] = f"the test of it failed: {described(error)}"
    return _KNOWN[key]


def _difference(setting: Setting, reads: list[str], acts: Mapping[str, Act]) -> str:
    with closing(StatefulPlant(setting, reads, list(acts), "")) as first:
        first.reset({})
        _play(first, acts, 0, BEFORE)
        saved = first.state()
        expected = _play(first, acts, BEFORE, AFTER)
    # A new copy of the library: static variables are not part of the state.
    with closing(StatefulPlant(setting, reads, list(acts), "")) as second:
        second.load_state(saved)
        again = _play(second, acts, BEFORE, AFTER)
    for number, (one, other) in enumerate(zip(expected, again, strict=True), 1):
        if one.tobytes() != other.tobytes():
            return f"step {number} after the state was loaded differs"
    return ""


def _play(plant: Plant, acts: Mapping[str, Act], begin: int, steps: int) -> list[np.ndarray]:
    trace = []
    for number in range(begin, begin + steps):
        report_activity(f"step {number + 1} of the test of the FMU's state")
        actions = {name: _action(act, number) for name, act in acts.items()}
        trace.append(np.array(list(plant.step(actions).values())))
        if plant.terminated() or plant.truncated():
            break
    return [*trace, np.array(plant.everything())]


def _action(act: Act, number: int) -> Any:
    """Goes through the range in an irregular order."""
    if act.values is not None:
        return act.values[number * 7 % len(act.values)]
    assert act.min is not None and act.max is not None
    return act.min + (act.max - act.min) * (number * 7 % 11) / 10
