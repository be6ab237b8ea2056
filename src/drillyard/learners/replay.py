"""A replay buffer as append-only segments, so that each row is stored once.

Rows are numbered by the order in which they were added, from 0 and for ever; row ``i`` lies at
``i % size`` of the ring. A checkpoint holds the segments that still reach into the ring, and one
new segment with the rows since the last checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from drillyard.errors import CorruptObject
from drillyard.learners.packing import npz_arrays, npz_bytes

_NAME = re.compile(r"replay-(?P<first>\d+)-(?P<last>\d+)\.npz\Z")
_FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def _arrays(buffer: Any) -> dict[str, np.ndarray]:
    """Every array of a buffer, (size, n_envs, …), Dict observations as ``observations.<key>``."""
    found: dict[str, np.ndarray] = {}
    for field in _FIELDS:
        value = getattr(buffer, field, None)
        if isinstance(value, Mapping):
            found |= {f"{field}.{key}": array for key, array in value.items()}
        elif value is not None:
            found[field] = value
    return found


def _span(name: str) -> tuple[int, int]:
    match = _NAME.match(name)
    if match is None:
        raise CorruptObject(f"{name} is no segment of a replay buffer")
    return int(match["first"]), int(match["last"])


def is_segment(name: str) -> bool:
    """True for the name of a segment."""
    return _NAME.match(name) is not None


def needed(names: Iterable[str], rows: int, size: int) -> list[str]:
    """Those of the stored segments that still reach into the ring after ``rows`` additions."""
    return [name for name in names if _span(name)[1] > rows - size]


def new_segment(names: Iterable[str], buffer: Any, rows: int) -> tuple[str, bytes] | None:
    """The rows that no stored segment has.

    Args:
        names: Stored segments.
        buffer: An SB3 replay buffer.
        rows: How many rows were ever added.

    Returns:
        (name, content), or None when there are none.
    """
    size = int(buffer.buffer_size)
    first = max((_span(name)[1] for name in names), default=0)
    first = max(first, rows - size)
    if first >= rows:
        return None
    places = np.arange(first, rows) % size
    content = {name: array[places] for name, array in _arrays(buffer).items()}
    return f"replay-{first:012d}-{rows:012d}.npz", npz_bytes(content)


def restore(buffer: Any, segments: Mapping[str, bytes], rows: int) -> None:
    """Fill a fresh buffer.

    Raises:
        CorruptObject: The segments do not cover the ring, or are those of another world.
    """
    size = int(buffer.buffer_size)
    expected = max(0, rows - size)
    arrays = _arrays(buffer)
    for name in sorted(segments):
        first, last = _span(name)
        content = npz_arrays(segments[name])
        start = max(first, rows - size)
        if first > expected or set(content) != set(arrays) or last > rows:
            raise CorruptObject(f"replay buffer: segment {name} does not follow row {expected}")
        places = np.arange(start, last) % size
        for field, array in arrays.items():
            if content[field].shape != (last - first, *array.shape[1:]):
                raise CorruptObject(f"replay buffer: {field} has another shape in {name}")
            array[places] = content[field][start - first :]
        expected = last
    if expected != rows:
        raise CorruptObject(f"replay buffer: rows {expected} to {rows} are missing")
    buffer.pos, buffer.full = rows % size, rows >= size


def mark_cut(buffer: Any) -> None:
    """Say of the last row of each copy that its episode was cut there, not ended.

    One-step targets bootstrap at such a row anyway; n-step returns must not run across it. Called
    before a checkpoint, because stored rows never change.
    """
    last = buffer.pos - 1
    alive = buffer.dones[last] == 0
    if buffer.handle_timeout_termination:
        buffer.dones[last][alive] = 1.0
        buffer.timeouts[last][alive] = 1.0
    elif buffer.optimize_memory_usage:
        # Its next observation is about to be overwritten by a first one: SB3's own rule.
        buffer.dones[last][alive] = 1.0


def head(buffer: Any) -> Any:
    """What of a buffer changes after it was stored.

    That is the row under the pen, which the memory-saving buffer uses as last next observation, or
    the priorities of all rows.
    """
    if hasattr(buffer, "priorities"):
        return {"priorities": np.array(buffer.priorities), "largest": buffer.largest}
    return np.array(buffer.observations[buffer.pos]) if buffer.optimize_memory_usage else None


def load_head(buffer: Any, row: Any) -> None:
    """Put back what ``head`` read."""
    if isinstance(row, dict):
        buffer.load_priorities(row["priorities"], row["largest"])
    elif row is not None:
        buffer.observations[buffer.pos] = row
