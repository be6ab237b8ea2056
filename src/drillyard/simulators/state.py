"""State that goes through a checkpoint: arrays and JSON, nothing else.

A simulator or wrapper that implements ``Stateful`` goes on exactly where it was after a resume.
One silent layer in a stack, and the whole stack is reset at barriers instead (visibly).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

State = dict[str, Any]
"""Values: numbers, texts, booleans, None, lists and dicts of them, and numpy arrays."""


@runtime_checkable
class Stateful(Protocol):
    """A layer that can be frozen and thawed."""

    def state(self) -> State:
        """Everything that the next steps depend on, random generators included."""

    def load_state(self, state: State) -> None:
        """Go on from ``state``, as if nothing had happened."""


def rng_state(rng: np.random.Generator) -> State:
    """A generator's state as JSON (PCG64: integers of 128 bits are JSON integers)."""
    return dict(rng.bit_generator.state)


def load_rng(rng: np.random.Generator, state: State) -> None:
    """Put a generator into a state read by ``rng_state``."""
    rng.bit_generator.state = state
