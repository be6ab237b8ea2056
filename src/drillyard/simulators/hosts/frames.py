"""What learner, hosts and copies say to each other: frames of JSON and raw arrays. No pickle.

A frame is a head of 16 bytes (the mark ``DYF1``, the length of the JSON, the length of the
arrays, both big-endian), the JSON, and the bytes of the arrays. Arrays and NumPy scalars are taken
out of the message and replaced by a marker, so that what comes back equals what went in, bit by
bit and type by type. Each array begins at a multiple of 16 bytes, as NumPy and torch want it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

MARK = b"DYF1"
HEAD = struct.Struct("!4sIQ")
_ALIGN = 16
_PLAIN = "biufcSU"
"""NumPy's letters of the types that are sent: no objects, no records."""
JSON_LIMIT = 64 * 2**20
ARRAYS_LIMIT = 8 * 2**30
"""Bytes. A longer frame is not one of ours."""
_KEPT_TEXT = 4096
_KEPT_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPALIVE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""Options of the socket, as far as the system has them: a side that only waits notices within 40 s
that the other machine has vanished. The system's own limit is two hours. There is no limit for
data that the other side has not taken: a learner may wait minutes for the host it reads first.
"""
_CHUNK = 2**16
"""Bytes that are read at once; a step of most simulators is shorter."""

Message = tuple[str, Any]
"""Kind of the message, and its content."""


class FrameError(ValueError):
    """Something cannot be sent, or what came is not a frame. The message names the place."""


def can_send(dtype: np.dtype[Any]) -> bool:
    """Returns whether arrays of a type can be sent."""
    return dtype.kind in _PLAIN


def encode(kind: str, body: object = None) -> bytes:
    """A frame.

    Args:
        kind: What the message means.
        body: None, booleans, numbers, texts, tuples, lists, dicts, NumPy arrays and scalars.

    Raises:
        FrameError: Something else is in it; names the place.
    """
    arrays: list[np.ndarray] = []
    tree = _out(body, arrays, kind)
    described = [[a.dtype.str, list(a.shape)] for a in arrays]
    text = json.dumps([kind, tree, described], separators=(",", ":")).encode()
    raw = bytearray()
    for array in arrays:
        raw += array.tobytes()
        raw += bytes(-len(raw) % _ALIGN)
    return HEAD.pack(MARK, len(text), len(raw)) + text + raw


class Template:
    """Frames that differ in the bytes of their arrays alone, so that the rest is made once.

    Args:
        kind: See ``encode``.
        body: See there; has one array.
    """

    def __init__(self, kind: str, body: object) -> None:
        frame = encode(kind, body)
        text, self._size = lengths(frame[: HEAD.size])
        self._before = frame[: HEAD.size + text]

    def fill(self, raw: bytes) -> bytes:
        """Returns the frame with other bytes in the array."""
        return self._before + raw + bytes(self._size - len(raw))


@lru_cache(maxsize=256)
def array_template(kind: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Template:
    """Returns the frames of a single array."""
    return Template(kind, np.zeros(shape, dtype))


def decode(frame: bytes | bytearray | memoryview) -> Message:
    """The message of a frame.

    Raises:
        FrameError: It is not one.
    """
    view = memoryview(frame)
    text, raw = lengths(view[: HEAD.size])
    end = HEAD.size + text
    if len(view) != end + raw:
        raise FrameError("a frame has another length than it says")
    # A copy: arrays must be writable, and must not keep the whole frame in memory.
    return message(view[HEAD.size : end], bytearray(view[end:]))


def lengths(head: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Bytes of the JSON and of the arrays that follow a head.

    Raises:
        FrameError: It is not the head of a frame.
    """
    if len(head) != HEAD.size:
        raise FrameError("the connection ended within a frame")
    mark, text, raw = HEAD.unpack(head)
    if mark != MARK or text > JSON_LIMIT or raw > ARRAYS_LIMIT:
        raise FrameError("what came is not a frame of drillyard")
    return text, raw


def message(text: bytes | bytearray | memoryview, raw: bytearray) -> Message:
    """The message of the two parts of a frame; its arrays use the memory of ``raw``.

    Raises:
        FrameError: The two do not fit together.
    """
    try:
        # The texts of two steps are often the same.
        read = _read if len(text) > _KEPT_TEXT else _read_once
        kind, tree, described = read(bytes(text))
        arrays = [
            np.frombuffer(raw, a.dtype, a.size, a.at).reshape(a.shape)
            if a.size
            else np.zeros(a.shape, a.dtype)
            for a in described
        ]
        return kind, _in(tree, arrays)
    except FrameError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise FrameError(f"a frame cannot be read: {error}") from error


class _Array(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    at: int
    """First byte."""


def _read(text: bytes) -> tuple[str, Any, list[_Array]]:
    """What the JSON of a frame says."""
    kind, tree, described = json.loads(text)
    arrays, at = [], 0
    for name, shape in described:
        dtype = np.dtype(name)
        if not can_send(dtype):
            raise FrameError(f"a frame has an array of {dtype}")
        if any(length < 0 for length in shape):
            raise FrameError(f"a frame has an array of the shape {shape}")
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(_Array(dtype, tuple(shape), count, at))
        at += count * dtype.itemsize
        at += -at % _ALIGN
    return str(kind), tree, arrays


_read_once = lru_cache(maxsize=64)(_read)


class Wire:
    """A connection that sends and receives frames.

    Args:
        connection: A connected TLS socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._timeout_s = connection.gettimeout()
        self._until: float | None = None
        """Monotonic seconds at which the present message must be there."""
        self._chunk, self._from, self._to = bytearray(_CHUNK), 0, 0
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEPT_ALIVE.items():
            option = getattr(socket, name, None)
            if option is not None:
                with contextlib.suppress(OSError):  # an older system
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def send(self, kind: str, body: object = None, timeout_s: float | None = None) -> None:
        """Send a message.

        Raises:
            OSError: The connection is lost.
            FrameError: The message cannot be sent.
        """
        self.send_frame(encode(kind, body), timeout_s)

    def send_frame(self, frame: bytes, timeout_s: float | None = None) -> None:
        """Send a frame that was made before."""
        self._patience(timeout_s)
        self._socket.sendall(frame)

    def receive(self, timeout_s: float | None = None, most: int | None = None) -> Message:
        """The next message.

        Args:
            timeout_s: Longest silence; None waits. With ``most``, the limit of the whole message.
            most: Longest frame in bytes that is read; None: see ``JSON_LIMIT``.

        Raises:
            OSError: The connection is lost, or was silent for too long (``TimeoutError``).
            FrameError: What came is not a frame, or is longer than ``most``.
        """
        self._patience(timeout_s)
        self._until = None
        if most is not None and timeout_s is not None:
            self._until = time.monotonic() + timeout_s
        text, raw = lengths(self._exactly(HEAD.size))
        if most is not None and text + raw > most:
            raise FrameError("a message is too long for this place")
        return message(self._exactly(text), self._exactly(raw))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _patience(self, timeout_s: float | None) -> None:
        """Set the longest silence, which costs a system call, where it is another one."""
        if timeout_s != self._timeout_s:
            self._socket.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _exactly(self, size: int) -> bytearray:
        """The next bytes. Short messages are read as a whole, since each read costs."""
        there = min(size, self._to - self._from)
        buffer = self._chunk[self._from : self._from + there]
        self._from += there
        while len(buffer) < size:
            missing = size - len(buffer)
            if missing >= _CHUNK:
                buffer += self._rest(missing)
                break
            self._from, self._to = 0, 0
            self._to = self._got(self._chunk)
            self._from = min(missing, self._to)
            buffer += memoryview(self._chunk)[: self._from]
        return buffer

    def _rest(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view, read = memoryview(buffer), 0
        while read < size:
            read += self._got(view[read:])
        return buffer

    def _got(self, buffer: bytearray | memoryview) -> int:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the message did not come in time")
            self._patience(left)
        got = self._socket.recv_into(buffer)
        if got == 0:
            raise ConnectionResetError("the other side closed the connection")
        return got


def _out(value: Any, arrays: list[np.ndarray], place: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if not can_send(value.dtype):
            raise FrameError(f"{place} is an array of {value.dtype}")
        arrays.append(np.asarray(value))
        kind = "$array" if isinstance(value, np.ndarray) else "$scalar"
        return {kind: len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        items = [_out(v, arrays, f"{place}[{i}]") for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        if all(type(k) is str and not k.startswith("$") for k in value):
            return {k: _out(v, arrays, f"{place}[{k!r}]") for k, v in value.items()}
        pairs = [
            [_out(k, arrays, f"a key of {place}"), _out(v, arrays, f"{place}[{k!r}]")]
            for k, v in value.items()
        ]
        return {"$items": pairs}
    raise FrameError(f"{place} is a {type(value).__name__}")


def _in(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_in(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$array":
            return arrays[inner]
        if key == "$scalar":
            return arrays[inner][()]
        if key == "$tuple":
            return tuple(_in(v, arrays) for v in inner)
        if key == "$items":
            return {_in(k, arrays): _in(v, arrays) for k, v in inner}
    return {k: _in(v, arrays) for k, v in value.items()}
