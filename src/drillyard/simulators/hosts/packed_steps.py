"""A step of the copies in its shortest form, from a copy's process to the learner.

A frame (``frames``) describes its arrays in JSON, which costs more than the step of a fast
simulator. What a copy answers has the same types and shapes at nearly every step, so they are said
once: an answer is then a *row* of fixed length. A host puts the rows of its copies one after the
other and sends them as they are; the learner reads them as one array::

    to a copy    "s" + bytes of the action
    to the host  "s" + reward, ended, cut + bytes of each value of the layout [+ tail]
    to the learner  the layout, the rows as one array, and the tails that there are

The layout names the observations, and those infos that are numbers or arrays of one type and
shape. What else an answer has, mostly at the end of an episode, is its tail: a frame.

The first action of a layout comes as a frame, and so does the first answer. An answer that does
not fit the layout is a frame again, and the next layout follows from it. Infos that were missing
or had another type once are no part of it any longer. Numbers keep every bit.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from drillyard.simulators.hosts import frames

STEP = b"s"
_HEAD = "<cd??"
_FIELDS: list[tuple[str, str]] = [("s", "S1"), ("r", "<f8"), ("d", "?"), ("t", "?")]
_NUMBERS = {float: ("<f8", "d"), int: ("<i8", "q"), bool: ("|b1", "?")}
"""Python's numbers, and how NumPy and ``struct`` call what has each of their bits."""
_BY_NAME = {kind.__name__: kind for kind in _NUMBERS}
_INTS = range(-(2**63), 2**63)


class Part(NamedTuple):
    """One value of a row."""

    of: str
    """"o": of the observation, "i": of the infos."""
    key: str
    form: str
    """"array", or "scalar" of NumPy, or Python's "float", "int", "bool"."""
    dtype: str
    shape: tuple[int, ...]


def is_packed(data: bytes) -> bool:
    """Returns whether bytes are a packed step or answer, and not a frame."""
    return data[:1] == STEP


def part_of(of: str, key: object, value: Any) -> Part | None:
    """Returns how a value is put into a row; None: it is not."""
    if type(key) is not str:
        return None
    kind = type(value)
    if kind in _NUMBERS:
        fits = kind is not int or value in _INTS
        return Part(of, key, kind.__name__, _NUMBERS[kind][0], ()) if fits else None
    scalar = isinstance(value, np.generic)
    if (scalar or kind is np.ndarray) and frames.can_send(value.dtype):
        form = "scalar" if scalar else "array"
        if of == "i" and not scalar and not value.shape:
            return None  # a column of them is read as scalars
        return Part(of, key, form, value.dtype.str, value.shape)
    return None


class _Slot(NamedTuple):
    key: str
    kind: type
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def _slot(part: Part) -> _Slot:
    dtype = np.dtype(part.dtype)
    return _Slot(part.key, dtype.type if part.form == "scalar" else np.ndarray, dtype, part.shape)


class StepReader:
    """The side of the copy that reads actions."""

    def __init__(self) -> None:
        self._type: np.dtype[Any] = np.dtype(float)
        self._shape: tuple[int, ...] = (1,)

    def first(self, action: np.ndarray) -> np.ndarray:
        """Takes the type and the shape of actions from the first; returns it."""
        self._type, self._shape = action.dtype, action.shape
        return action

    def action(self, data: bytes) -> np.ndarray:
        """Returns the action of a packed step, writable, with an axis for the copy."""
        return np.ndarray(self._shape, self._type, bytearray(data[1:]))


class RowWriter:
    """The side of the copy that writes answers."""

    def __init__(self) -> None:
        self._layout: list[Part] | None = None
        self._head = struct.Struct(_HEAD)
        self._names: list[str] = []
        self._types: list[type] = []
        """Infos that are Python's numbers."""
        self._observed: list[_Slot] = []
        self._arrays: list[_Slot] = []
        self._keys: set[str] = set()
        self._of_an_end = False
        """The layout was made at the end of an episode, whose infos are other ones."""
        self._left: set[str] = set()
        """Infos that are no part of a layout."""

    def answer(self, done: dict[str, Any]) -> bytes:
        """Returns the answer to a step.

        Args:
            done: ``o`` (arrays by key), ``r``, ``d``, ``t``, ``i`` and, at an end, ``j``.

        Raises:
            FrameError: The infos cannot be sent.
        """
        row = self._row(done)
        return self._frame(done) if row is None else row

    def _row(self, done: dict[str, Any]) -> bytes | None:
        """The answer as a row; None where it does not fit the layout."""
        observed, infos, ended = done["o"], done["i"], done["d"]
        if self._layout is None or (self._of_an_end and not ended):
            return None
        numbers = [infos.get(name) for name in self._names]
        if [*map(type, numbers)] != self._types or len(observed) != len(self._observed):
            return None
        try:
            parts = [self._head.pack(STEP, done["r"], ended, done["t"], *numbers)]
        except struct.error:  # an int is too long
            return None
        for slots, values in ((self._observed, observed), (self._arrays, infos)):
            for key, kind, dtype, shape in slots:
                value = values.get(key)
                its = type(value)
                if its is not kind or value.dtype != dtype or value.shape != shape:
                    return None
                parts.append(value.tobytes())
        return b"".join([*parts, self._tail(done)])

    def _tail(self, done: dict[str, Any]) -> bytes:
        """What the layout has no place for."""
        tail, infos = {}, done["i"]
        if len(infos) > len(self._keys):
            tail["i"] = {key: value for key, value in infos.items() if key not in self._keys}
        if done.get("j"):
            tail["j"] = done["j"]
        return frames.encode("tail", tail) if tail else b""

    def _infos(self, done: dict[str, Any]) -> list[Part]:
        """The infos of the next layout; those of an episode's end are other ones."""
        known = [part for part in self._layout or () if part.of == "i"]
        if done["d"]:
            return known
        now = {key: part_of("i", key, value) for key, value in done["i"].items()}
        self._left |= {part.key for part in known if now.get(part.key) != part}
        return [part for key, part in now.items() if part and key not in self._left]

    def _frame(self, done: dict[str, Any]) -> bytes:
        """The answer as a frame, with the layout of the answers after it."""
        ended, known = done["d"], self._infos(done)
        observed = [part_of("o", key, value) for key, value in done["o"].items()]
        numbers = [part for part in known if part.form in _BY_NAME]
        arrays = [part for part in known if part.form not in _BY_NAME]
        seen = [part for part in observed if part is not None]
        layout = [*numbers, *seen, *arrays]
        frame = frames.encode("stepped", done | {"layout": [list(part) for part in layout]})
        self._layout, self._of_an_end = layout, ended and not known
        self._names = [part.key for part in numbers]
        self._types = [_BY_NAME[part.form] for part in numbers]
        self._head = struct.Struct(_HEAD + "".join(_NUMBERS[kind][1] for kind in self._types))
        self._observed, self._arrays = [*map(_slot, seen)], [*map(_slot, arrays)]
        self._keys = {part.key for part in known}
        return frame


class RowReader:
    """Reads rows of one layout.

    Args:
        layout: As a frame has it: a list with a list for each part.

    Raises:
        FrameError: It is not a layout.
    """

    def __init__(self, layout: Sequence[Any]) -> None:
        try:
            parts = [Part(str(o), str(k), str(f), str(d), tuple(s)) for o, k, f, d, s in layout]
            names = [(f"v{n}", part.dtype, part.shape) for n, part in enumerate(parts)]
            self._dtype = np.dtype([*_FIELDS, *names])
        except (TypeError, ValueError) as error:
            raise frames.FrameError(f"a layout of rows cannot be read: {error}") from error
        if not all(frames.can_send(np.dtype(part.dtype)) for part in parts):
            raise frames.FrameError("a layout of rows has a type that is not sent")
        named = [(f"v{n}", part) for n, part in enumerate(parts)]
        self._observed = [(name, part.key) for name, part in named if part.of == "o"]
        self._infos = [(name, part) for name, part in named if part.of != "o"]
        self.size = self._dtype.itemsize
        """Bytes of a row."""

    def read(
        self, rows: bytes | bytearray | np.ndarray, tails: Mapping[int, Any]
    ) -> dict[str, Any]:
        """Returns what the frame of all answers would say.

        Args:
            rows: The rows.
            tails: Number of a row -> its tail.

        Raises:
            FrameError: The rows have another length, or a tail is not a frame.
        """
        try:
            table = np.frombuffer(rows, self._dtype)
        except ValueError as error:
            raise frames.FrameError(f"rows cannot be read: {error}") from error
        infos: list[dict[str, Any]] = [{} for _ in table]
        for name, part in self._infos:
            column = table[name]
            # NumPy's own numbers and arrays are copied: the rows are thrown away.
            values = column.tolist() if part.form in _BY_NAME else list(column.copy())
            for info, value in zip(infos, values, strict=True):
                info[part.key] = value
        begun = {}
        for place, tail in tails.items():
            more = frames.decode(bytes(tail))[1]
            infos[place] |= more.get("i", {})
            if "j" in more:
                begun[place] = more["j"]
        return {
            "o": {key: table[name] for name, key in self._observed},
            "r": table["r"],
            "d": table["d"],
            "t": table["t"],
            "i": {place: info for place, info in enumerate(infos) if info},
            "j": begun,
        }
