"""What learner, hosts and copies say to each other."""

import math
import socket
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drillyard.simulators.hosts import frames

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    PLAIN
    | arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and (one.tobytes() == other.tobytes())
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@given(VALUES)
def test_what_comes_back_equals_what_went_in(value):
    kind, found = frames.decode(frames.encode("step", value))
    assert kind == "step" and same(value, found)


def test_arrays_are_raw_aligned_and_writable():
    odd, numbers = np.array([1, 2, 3], np.uint8), np.linspace(0, 1, 5)
    frame = frames.encode("step", [odd, numbers])
    assert numbers.tobytes() in frame
    _, (first, second) = frames.decode(frame)
    first[0], second[0] = 9, 9.0
    assert second.ctypes.data % 8 == 0 and second.flags.aligned


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"info": {"plant": object()}}, r"step\['info'\]\['plant'\] is a object"),
        ([np.array([object()])], r"step\[0\] is an array of object"),
        ({"x": {1, 2}}, r"step\['x'\] is a set"),
    ],
)
def test_what_cannot_be_sent_is_named(value, words):
    with pytest.raises(frames.FrameError, match=words):
        frames.encode("step", value)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        frames.HEAD.pack(frames.MARK, 2**31, 0),
        frames.HEAD.pack(frames.MARK, 2, 0) + b"{}",
        frames.HEAD.pack(frames.MARK, 28, 0) + b'["step",{"$array":0},[["O",[1',
        frames.encode("step", np.ones(4))[:-8],
        frames.encode("step", np.ones(1)).replace(b"<f8", b"|O8"),
        frames.encode("step", np.ones(1)).replace(b"[[1]", b"[[9]").replace(b"[1]", b"[9]"),
    ],
)
def test_what_is_not_a_frame_is_refused(frame):
    with pytest.raises(frames.FrameError):
        frames.decode(frame)


def test_a_connection_that_ends_or_says_too_much():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        wire = frames.Wire.__new__(frames.Wire)  # a pair has no TCP options
        wire._socket = ours
        theirs.sendall(frames.encode("join", "x" * 1000))
        with pytest.raises(frames.FrameError, match="too long"):
            wire.receive(5, most=100)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        wire = frames.Wire.__new__(frames.Wire)
        wire._socket = ours
        theirs.sendall(struct.pack("!4sIQ", frames.MARK, 10, 0) + b"[1")
        theirs.close()
        with pytest.raises(ConnectionError):
            wire.receive(5)
