"""A replay buffer as append-only segments, so that each row is stored once.

Rows are numbered from 0 in the order in which they are added; row ``i`` is at ``i % size`` of the
ring. A checkpoint holds the segments with rows that are still in the ring, and one new segment
with the rows since the last checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from drillyard.agents.packing import npz_bytes, npz_each
from drillyard.errors import ConfigError, CorruptObject
from drillyard.learners.rainbow import Prioritized
from drillyard.learners.types import Arrays, PriorityHead

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer

_NAME = re.compile(r"replay-(?P<first>\d+)-(?P<last>\d+)\.npz\Z")
_FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def _arrays(buffer: ReplayBuffer) -> Arrays:
    """Every array of a buffer, (size, n_envs, …), Dict observations as ``observations.<key>``."""
    arrays: Arrays = {}
    for field in _FIELDS:
        value = getattr(buffer, field, None)
        if isinstance(value, Mapping):
            arrays |= {f"{field}.{key}": array for key, array in value.items()}
        elif value is not None:
            arrays[field] = value
    return arrays


def _span(name: str) -> tuple[int, int]:
    match = _NAME.match(name)
    if match is None:
        raise CorruptObject(f"{name} is not a segment of a replay buffer")
    return int(match["first"]), int(match["last"])


def is_segment(name: str) -> bool:
    """True for the name of a segment."""
    return _NAME.match(name) is not None


def needed(names: Iterable[str], rows: int, size: int) -> list[str]:
    """The stored segments with rows that are still in the ring after ``rows`` additions."""
    return [name for name in names if _span(name)[1] > rows - size]


def new_segment(names: Iterable[str], buffer: ReplayBuffer, rows: int) -> tuple[str, bytes] | None:
    """A segment with the rows that are not in a stored segment.

    Args:
        names: Names of the stored segments.
        buffer: An SB3 replay buffer.
        rows: Number of rows that were added so far.

    Returns:
        (name, content), or None if there are no such rows.
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
    buffer: ReplayBuffer, segments: dict[str, bytes], steps: int, copies: int | None = None
) -> None:
    """Fill a fresh buffer.

    Args:
        buffer: An SB3 replay buffer.
        segments: Name -> content. Each is removed once it is in the buffer, so that memory never
            holds all rows twice.
        steps: Environment steps done, summed over copies.
        copies: Number of copies of the simulator when the segments were written; None: as many as
            the buffer has.

    Raises:
        CorruptObject: The segments do not cover the ring, or belong to another simulator.
        ConfigError: Steps without their next observations cannot be given to other copies.
    """
    then, now = copies or buffer.n_envs, buffer.n_envs
    size, rows = int(buffer.buffer_size), steps // now
    if then == now:
        _fill(_arrays(buffer), segments, size, rows)
    elif buffer.optimize_memory_usage:
        raise ConfigError(
            "a replay buffer that saves memory cannot be rearranged for another number of copies",
            field="train.n_envs",
            value=now,
            allowed=str(then),
            hint=f"write n_envs: {then}",
        )
    elif rows:
        # First a ring with the old length for the old copies, which is then rearranged.
        old_size = max(1, size * now // then)
        shapes = {
            name: np.zeros((old_size, then, *array.shape[2:]), array.dtype)
            for name, array in _arrays(buffer).items()
        }
        _fill(shapes, segments, old_size, steps // then)
        _rearrange(buffer, shapes, steps // then, rows)
    buffer.pos, buffer.full = rows % size, rows >= size


def _fill(
    arrays: Mapping[str, np.ndarray], segments: dict[str, bytes], size: int, rows: int
) -> None:
    expected = max(0, rows - size)
    for name in sorted(segments):
        first, last = _span(name)
        start = max(first, rows - size)
        places = np.arange(start, last) % size
        fields = set()
        for field, content in npz_each(segments.pop(name)):
            if field not in arrays or content.shape != (last - first, *arrays[field].shape[1:]):
                raise CorruptObject(f"replay buffer: {field} has another shape in {name}")
            arrays[field][places] = content[start - first :]
            fields.add(field)
        if first > expected or fields != set(arrays) or last > rows:
            raise CorruptObject(f"replay buffer: segment {name} does not follow row {expected}")
        expected = last
    if expected != rows:
        raise CorruptObject(f"replay buffer: rows {expected} to {rows} are missing")


def _rearrange(buffer: ReplayBuffer, arrays: Arrays, rows_then: int, rows: int) -> None:
    """Fill a buffer with the steps of another number of copies.

    The steps of each copy keep their order, one copy after the other, and are divided into equal
    parts for the new columns. Where two parts meet, the episode counts as truncated.
    """
    size, now = int(buffer.buffer_size), buffer.n_envs
    old_size = next(iter(arrays.values())).shape[0]
    order = np.arange(max(0, rows_then - old_size), rows_then) % old_size
    needed = min(rows, size)
    for field, array in _arrays(buffer).items():
        flat = arrays[field][order].swapaxes(0, 1).reshape(-1, *array.shape[2:])
        if field == "dones" or field == "timeouts":
            ends = np.zeros(len(flat), dtype=bool)
            ends[len(order) - 1 :: len(order)] = True
            alive = arrays["dones"][order].swapaxes(0, 1).reshape(-1) == 0
            flat = np.where(ends & alive, 1, flat)
        # The newest steps; if the division left too few, the oldest ones are used twice.
        kept = np.take(flat, np.arange(len(flat) - needed * now, len(flat)), axis=0, mode="wrap")
        columns = kept.reshape(now, needed, *array.shape[2:])
        array[np.arange(rows - needed, rows) % size] = columns.swapaxes(0, 1)
    last = (rows - 1) % size
    alive = buffer.dones[last] == 0
    buffer.dones[last][alive] = 1.0
    buffer.timeouts[last][alive] = 1.0
    if isinstance(buffer, Prioritized):
        known = np.where(np.arange(size) < needed, buffer.largest, 0.0).astype(np.float32)
        buffer.load_priorities(known, buffer.largest)


def mark_cut(buffer: ReplayBuffer) -> None:
    """Mark the last row of each copy as the end of a truncated episode.

    One-step targets bootstrap at such a row in any case; n-step returns must not extend across it.
    It is called before a checkpoint, because stored rows never change.
    """
    last = buffer.pos - 1
    alive = buffer.dones[last] == 0
    if buffer.handle_timeout_termination:
        buffer.dones[last][alive] = 1.0
        buffer.timeouts[last][alive] = 1.0
    elif buffer.optimize_memory_usage:
        # A first observation will overwrite its next observation: this is SB3's own rule.
        buffer.dones[last][alive] = 1.0


def head(buffer: ReplayBuffer) -> PriorityHead | np.ndarray | None:
    """The part of a buffer that changes after it was stored.

    It is the row at the write position, which the memory-saving buffer uses as the last next
    observation, or the priorities of all rows.
    """
    if isinstance(buffer, Prioritized):
        return {"priorities": np.array(buffer.priorities), "largest": buffer.largest}
    return np.array(buffer.observations[buffer.pos]) if buffer.optimize_memory_usage else None


def load_head(buffer: ReplayBuffer, row: PriorityHead | np.ndarray | None) -> None:
    """Put back what ``head`` returned."""
    if isinstance(row, dict):
        buffer.load_priorities(row["priorities"], row["largest"])
    elif row is not None:
        buffer.observations[buffer.pos] = row
