"""A step of one copy in its shortest form, between a host and the process of the copy.

A frame (``frames``) describes its arrays in JSON, which costs more than the step of a fast
simulator. Actions and observations have the same types and shapes at every step, so these are said
once: of actions in the message ``layout``, of observations in the first answer, which is a frame.
After that, a step and its answer are::

    "s" + bytes of the action
    "s" + reward, ended, cut (``_HEAD``) + bytes of the observations + infos, if any, as a frame

An answer whose observations have another type or shape is a frame again, and its layout counts
from then on. Numbers keep every bit.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.hosts import frames

STEP = b"s"
_HEAD = struct.Struct("<cd??")
Layout = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Key, type and shape of each array."""


def is_packed(data: bytes) -> bool:
    """Returns whether bytes are a packed step or answer, and not a frame."""
    return data[:1] == STEP


def layout_of(arrays: Mapping[str, np.ndarray]) -> Layout:
    """Returns what both sides must know to send arrays without a description."""
    return tuple((key, array.dtype.str, array.shape) for key, array in arrays.items())


class StepReader:
    """The side of the copy: reads actions, and writes answers."""

    def __init__(self) -> None:
        self._type: np.dtype[Any] = np.dtype(float)
        self._shape: tuple[int, ...] = (1,)
        self._said: Layout | None = None

    def learn(self, about: JsonObject) -> None:
        """Take the type and the shape of an action from the message ``layout``."""
        shape = about["shape"]
        assert isinstance(shape, list)
        self._type = np.dtype(str(about["type"]))
        self._shape = (1, *(int(str(size)) for size in shape))

    def action(self, data: bytes) -> np.ndarray:
        """Returns the action of a packed step, writable, with an axis for the copy."""
        return np.frombuffer(data, self._type, offset=1).reshape(self._shape).copy()

    def answer(self, done: dict[str, Any]) -> bytes:
        """Returns the answer to a step.

        Raises:
            FrameError: The infos cannot be sent.
        """
        arrays: dict[str, np.ndarray] = done["o"]
        layout = layout_of(arrays)
        if layout != self._said:
            frame = frames.encode("done", done)
            self._said = layout
            return frame
        parts = [_HEAD.pack(STEP, done["r"], done["d"], done["t"])]
        parts += [array.tobytes() for array in arrays.values()]
        infos = {key: done[key] for key in ("i", "j") if done.get(key)}
        if infos:
            parts.append(frames.encode("infos", infos))
        return b"".join(parts)


class StepWriter:
    """The side of the host: writes actions, and reads the answers of one copy."""

    def __init__(self) -> None:
        self._places: list[tuple[str, np.dtype[Any], int, int, tuple[int, ...]]] = []
        """Key, type, first byte, number of values and shape of each array."""
        self._end = _HEAD.size

    def heard(self, done: Mapping[str, Any]) -> None:
        """Take the layout of the observations from an answer that came as a frame."""
        self._places, self._end = [], _HEAD.size
        for key, array in done["o"].items():
            self._places.append((key, array.dtype, self._end, array.size, array.shape))
            self._end += array.nbytes

    def read(self, data: bytes) -> dict[str, Any]:
        """Returns the content of a packed answer.

        Raises:
            FrameError: Its infos are no frame.
        """
        _, reward, ended, cut = _HEAD.unpack_from(data)
        observations = {
            key: np.frombuffer(data, kind, count, at).reshape(shape)
            for key, kind, at, count, shape in self._places
        }
        done: dict[str, Any] = {"o": observations, "r": reward, "d": ended, "t": cut}
        if self._end < len(data):
            done |= frames.decode(memoryview(data)[self._end :])[1]
        return done
