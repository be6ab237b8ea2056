"""State that goes through a checkpoint: arrays and JSON, nothing else.

A simulator or wrapper that implements ``Stateful`` continues exactly after a resume. If one layer
of a stack is silent, the open episode is replayed (``episode_replay``). Where a replay differs,
the whole stack is reset at barriers, which is reported.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypedDict, runtime_checkable

import numpy as np

State: TypeAlias = dict[str, Any]
"""Values: numbers, texts, booleans, None, lists and dicts of them, and numpy arrays."""


class SavedLayer(TypedDict):
    """The state of one layer of a simulator, and the name of its class."""

    layer: str
    state: State | None


SavedStack: TypeAlias = list[SavedLayer]
"""The state of all layers around one copy, outermost first."""


@runtime_checkable
class Stateful(Protocol):
    """A layer whose state can be saved and restored."""

    def state(self) -> State:
        """Everything that the next steps depend on, random generators included."""

    def load_state(self, state: State) -> None:
        """Continues from ``state`` exactly."""


def rng_state(rng: np.random.Generator) -> State:
    """A generator's state as JSON (PCG64: integers of 128 bits are JSON integers)."""
    return dict(rng.bit_generator.state)


def load_rng(rng: np.random.Generator, state: State) -> None:
    """Restores a state that was read by ``rng_state``."""
    rng.bit_generator.state = state


class Stateless:
    """A layer that keeps nothing between steps."""

    def state(self) -> State:
        """Has no state."""
        return {}

    def load_state(self, state: State) -> None:
        """Has no state."""
