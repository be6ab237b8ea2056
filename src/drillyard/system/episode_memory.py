"""Keeps the current episode of each copy of a simulator in a file that outlives the process.

A copy writes where the episode began, and then each action before the simulator gets it. Nothing
else is written, and nothing is sent anywhere, until a simulator fails. The memory is a file of the
attempt, so that the worker can read it also after the simulator ended the whole process.

The layout of a file: ``_HEAD``; the beginning as JSON; from ``_STEPS_AT`` on, entries of one
size. An entry counts if its number follows that of the entry before, so that nothing else is
written at a step.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from drillyard.system.operating_system import allocate

Document: TypeAlias = dict[str, Any]
"""A JSON object."""
FOLDER = "episodes"
SIZE = 16 * 2**20
"""Bytes of a copy's memory. A longer episode is not kept whole."""
_STEPS_AT = 2**20
_CHUNK = 2**18
_HEAD = struct.Struct("=qqq")
"""Length of the beginning, 0 for none; number of the first entry; step that failed, or _NONE."""
_NONE = -1
_NUMBER = struct.Struct("=qB")
STEP, RESET = 0, 1
_folder: Path | None = None
_names = itertools.count()
training_step: int | None = None
"""Step of the training in which a simulator of this process failed; a learner sets it."""


def keep_in(folder: Path | None) -> None:
    """Keep the episodes of this process, and of those that it forks.

    Args:
        folder: Where; None: nowhere.
    """
    global _folder
    _folder = None if folder is None else folder / FOLDER
    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True)


def kept() -> bool:
    """Whether episodes are kept."""
    return _folder is not None


class EpisodeMemory:
    """The memory of one copy, or of copies that share a step.

    Args:
        about: What does not change, as JSON.
        values: Letters of ``struct`` for the rewards of a step: ``d``, or ``16s`` for two.
        action: Bytes of a step's action.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, about: Document, values: str, action: int) -> None:
        assert _folder is not None
        self._path = _folder / f"{os.getpid()}-{next(_names)}"
        self._about = self._path.with_suffix(".json")
        self._about.write_text(json.dumps(about), encoding="utf-8")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(self._file, SIZE)
            # A page that the disk has no room for would end the process with SIGBUS.
            allocate(self._file, 0, _CHUNK)
            self._memory = mmap.mmap(self._file, SIZE)
        except OSError:
            self.close()
            raise
        self._allocated, self._number, self._at = _CHUNK, 0, _STEPS_AT
        self._shape(values, action)

    def _shape(self, values: str, action: int) -> None:
        self._entry = struct.Struct(f"=qB{values}{action}s")
        self._size, self._pack = self._entry.size, self._entry.pack_into

    def begin(self, start: Document, values: str, action: int) -> None:
        """Forget the steps so far, and keep where the next ones begin.

        Args:
            start: The beginning. ``values`` and ``action`` are added.
            values: See the class.
            action: See the class.

        Raises:
            ValueError: The beginning is too large, or not JSON.
            OSError: The disk is full.
        """
        self._shape(values, action)
        text = json.dumps({**start, "values": values, "action": action}).encode()
        self.forget()
        if _HEAD.size + len(text) > _STEPS_AT:
            raise ValueError(f"the state is larger than {_STEPS_AT:,} bytes")
        self._need(_HEAD.size + len(text))
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        self._at = _STEPS_AT
        self._number += 1  # no entry of before continues the new ones
        _HEAD.pack_into(self._memory, 0, len(text), self._number, _NONE)

    def forget(self) -> None:
        """Keep nothing until the next beginning."""
        _HEAD.pack_into(self._memory, 0, 0, 0, _NONE)

    def add(self, kind: int, rewards: float | bytes, action: bytes) -> bool:
        """Keep a step, before it is done.

        Args:
            kind: ``STEP`` or ``RESET``.
            rewards: Those of the step before.
            action: Its action.

        Returns:
            Whether there was room.
        """
        at = self._at
        end = at + self._size
        if end > self._allocated and not self._room(end):
            return False
        self._pack(self._memory, at, self._number, kind, rewards, action)
        self._number += 1
        self._at = end
        return True

    def fail(self, step: int) -> None:
        """The simulator failed.

        Args:
            step: Step of the episode, from 1; 0 in a reset.
        """
        length, first, _ = _HEAD.unpack_from(self._memory)
        _HEAD.pack_into(self._memory, 0, length, first, step)

    @property
    def used(self) -> float:
        """Part of the memory that is used, 0 to 1."""
        return (self._at - _STEPS_AT) / (SIZE - _STEPS_AT)

    def close(self) -> None:
        """Delete the file, unless the simulator failed."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if _HEAD.unpack_from(self._memory)[2] != _NONE:
                return
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _room(self, end: int) -> bool:
        if end > SIZE:
            return False
        try:
            self._need(end)
        except OSError:
            return False
        return True

    def _need(self, end: int) -> None:
        while self._allocated < end:
            allocate(self._file, self._allocated, _CHUNK)
            self._allocated += _CHUNK


@dataclass(frozen=True)
class Entry:
    """A step, or the reset before the next one."""

    kind: int
    rewards: bytes
    """Rewards of the step before."""
    action: bytes


@dataclass(frozen=True)
class Memory:
    """What a file holds."""

    failed: int | None
    """Step of the episode in which the simulator failed; 0 in a reset, None if it did not."""
    about: Document
    start: Document
    steps: bytes

    def entries(self) -> list[Entry]:
        """The steps in order; the last one was not completed."""
        return list(entries(self.start, self.steps))

    def packed(self) -> str:
        """The steps, compressed, as text."""
        return base64.b64encode(zlib.compress(self.steps)).decode()

    def is_at(self, copy: int, step: int) -> bool:
        """Whether this is the memory of a copy that was in a step when its process ended.

        Args:
            copy: Its index.
            step: Step of the episode, 0 in a reset.
        """
        if self.about["together"]:
            return copy == 0
        return self.about["copy"] == copy and last_step(self.start, self.entries()) == step


def unpacked(text: str) -> bytes:
    """The steps from ``Memory.packed``.

    Raises:
        ValueError: They are damaged.
    """
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from error


def last_step(start: Document, done: list[Entry]) -> int:
    """Step of the episode in which the last entry is; 0 in a reset.

    Args:
        start: The beginning.
        done: The entries.
    """
    resets = [index for index, entry in enumerate(done) if entry.kind == RESET]
    return len(done) - resets[-1] - 1 if resets else len(done) + int(str(start["length"]))


def entries(start: Document, steps: bytes) -> Iterator[Entry]:
    """The entries of a memory.

    Args:
        start: Its beginning.
        steps: Its bytes.
    """
    size = struct.calcsize(f"={start['values']}")
    width = _NUMBER.size + size + int(str(start["action"]))
    for at in range(0, len(steps) - width + 1, width):
        kind = steps[at + _NUMBER.size - 1]
        middle = at + _NUMBER.size + size
        yield Entry(kind, steps[at + _NUMBER.size : middle], steps[middle : at + width])


def read(folder: Path) -> list[Memory]:
    """The memories of an attempt whose process may have ended.

    Args:
        folder: That of ``keep_in``.
    """
    episodes = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
            if (memory := _read(path.with_suffix(""))) is not None:
                episodes.append(memory)
    return episodes


def _read(path: Path) -> Memory | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        length, number, failed = _HEAD.unpack_from(memory)
        if not length:
            return None
        about: Document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        start: Document = json.loads(memory[_HEAD.size : _HEAD.size + length])
        width = _NUMBER.size + struct.calcsize(f"={start['values']}") + int(str(start["action"]))
        at = _STEPS_AT
        while at + width <= SIZE and _NUMBER.unpack_from(memory, at)[0] == number:
            at, number = at + width, number + 1
        return Memory(None if failed == _NONE else failed, about, start, memory[_STEPS_AT:at])
