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

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.errors import ConfigError, CorruptObject

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


def restore(
    buffer: Any, segments: Mapping[str, bytes], steps: int, copies: int | None = None
) -> None:
    """Fill a fresh buffer.

    Args:
        buffer: Of SB3.
        segments: Name -> content.
        steps: Environment steps done, summed over copies.
        copies: Of the simulator that the segments are of; None: as many as the buffer's.

    Raises:
        CorruptObject: The segments do not cover the ring, or are those of another world.
        ConfigError: Steps without their next observations cannot be dealt to other copies.
    """
    then, now = copies or buffer.n_envs, buffer.n_envs
    size, rows = int(buffer.buffer_size), steps // now
    if then == now:
        _fill(_arrays(buffer), segments, size, rows)
    elif buffer.optimize_memory_usage:
        raise ConfigError(
            "a replay buffer that saves memory cannot be laid out for another number of copies",
            field="train.n_envs",
            value=now,
            allowed=str(then),
            hint=f"write n_envs: {then}",
        )
    elif rows:
        # As long a ring as theirs was, for as many copies, and then laid out anew.
        theirs = max(1, size * now // then)
        shapes = {
            name: np.zeros((theirs, then, *array.shape[2:]), array.dtype)
            for name, array in _arrays(buffer).items()
        }
        _fill(shapes, segments, theirs, steps // then)
        _lay_out(buffer, shapes, steps // then, rows)
    buffer.pos, buffer.full = rows % size, rows >= size


def _fill(
    arrays: Mapping[str, np.ndarray], segments: Mapping[str, bytes], size: int, rows: int
) -> None:
    expected = max(0, rows - size)
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


def _lay_out(buffer: Any, arrays: dict[str, np.ndarray], rows_then: int, rows: int) -> None:
    """Steps of one number of copies as those of another one.

    The steps of each copy stay in their order, one copy after the other, and are dealt to the new
    columns in equal parts. Where two parts meet, the episode counts as cut there: a truncation.
    """
    size, now = int(buffer.buffer_size), buffer.n_envs
    there = next(iter(arrays.values())).shape[0]
    order = np.arange(max(0, rows_then - there), rows_then) % there
    needed = min(rows, size)
    for field, array in _arrays(buffer).items():
        flat = arrays[field][order].swapaxes(0, 1).reshape(-1, *array.shape[2:])
        if field == "dones" or field == "timeouts":
            ends = np.zeros(len(flat), dtype=bool)
            ends[len(order) - 1 :: len(order)] = True
            alive = arrays["dones"][order].swapaxes(0, 1).reshape(-1) == 0
            flat = np.where(ends & alive, 1, flat)
        # The newest of them; where a division left too few, the oldest ones twice.
        kept = np.take(flat, np.arange(len(flat) - needed * now, len(flat)), axis=0, mode="wrap")
        columns = kept.reshape(now, needed, *array.shape[2:])
        array[np.arange(rows - needed, rows) % size] = columns.swapaxes(0, 1)
    last = (rows - 1) % size
    alive = buffer.dones[last] == 0
    buffer.dones[last][alive] = 1.0
    buffer.timeouts[last][alive] = 1.0
    if hasattr(buffer, "priorities"):
        known = np.where(np.arange(size) < needed, buffer.largest, 0.0).astype(np.float32)
        buffer.load_priorities(known, buffer.largest)


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
