"""Several trainings in one call of a program: ``vmap`` over lanes, one for each training.

A program has a fixed number of lanes. With fewer trainings, those left over repeat the first one,
and their results are thrown away. So the numbers of a training depend on the number of lanes, but
neither on its neighbours, nor on whether there are any, nor on its place among them;
``tests/unit/learners/test_jax_lanes.py`` compares them bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from drillyard.learners.jax_engine.fused import Result
    from drillyard.simulators.functional.protocol import Tree

AXIS = "lanes"
"""The name of the axis that ``vmap`` adds."""


def stack(parts: Sequence[Tree], number: int) -> Any:
    """The inputs of all lanes, with a new leading axis.

    Args:
        parts: The inputs of each training, as arrays of the same shapes.
        number: The number of lanes, at least that of the parts.
    """
    filled = [*parts, *[parts[0]] * (number - len(parts))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *filled)


def split(result: Result, number: int) -> list[Result]:
    """The results of the first lanes, one for each training."""
    return [jax.tree.map(lambda leaf, lane=lane: leaf[lane], result) for lane in range(number)]
