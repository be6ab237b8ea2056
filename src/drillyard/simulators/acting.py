"""From an agent's action to the values that a plain simulator is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.state import State
from drillyard.simulators.types import Action, Observation
from drillyard.spec.agent import Act


class Actuators:
    """All actions of a simulator, in the order of the table.

    Args:
        acts: Name -> range or values; never both kinds.
    """

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self._acts = dict(acts)
        self._choices = [act.values for act in acts.values() if act.values is not None]
        self._last: dict[str, float] = {}
        self.space: spaces.Space[Observation]
        if not self._choices:
            self.space = spaces.Box(-1.0, 1.0, (len(acts),), np.float32)
        elif len(self._choices) == 1:
            self.space = spaces.Discrete(len(self._choices[0]))
        else:
            self.space = spaces.MultiDiscrete([len(values) for values in self._choices])

    def begin(self, states: Mapping[str, float]) -> None:
        """An episode begins: where actions that are changes start from."""
        self._last = {}
        for name, act in self._acts.items():
            if act.change is None or act.min is None or act.max is None:
                continue
            middle = (act.min + act.max) / 2
            first = states.get(name, middle) if act.start is None else act.start
            self._last[name] = min(max(float(first), act.min), act.max)

    def take(self, action: Action) -> JsonObject:
        """Values by name.

        Args:
            action: An element of ``space``; that of a Box is clipped to [-1, 1].
        """
        parts = np.atleast_1d(np.asarray(action))
        if self._choices:
            chosen = zip(self._acts, self._choices, parts, strict=True)
            return {name: values[int(part)] for name, values, part in chosen}
        values: JsonObject = {}
        for (name, act), part in zip(self._acts.items(), parts, strict=True):
            assert act.min is not None and act.max is not None  # the table has one of the two
            share = min(max(float(part), -1.0), 1.0)
            if act.change is None:
                values[name] = act.min + (share + 1.0) / 2.0 * (act.max - act.min)
            else:
                moved = self._last[name] + share * act.change
                values[name] = self._last[name] = min(max(moved, act.min), act.max)
        return values

    def state(self) -> State:
        """The current values of actions that are changes."""
        return dict(self._last)

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._last = {name: float(value) for name, value in state.items()}
