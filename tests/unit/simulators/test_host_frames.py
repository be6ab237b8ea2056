"""What learner, hosts and copies say to each other."""

import math
import socket
import struct
import threading

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


def written(text):
    """A frame without arrays, whatever its text is."""
    return frames.HEAD.pack(frames.MARK, len(text), 0) + text


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
        written(b"[" * 30_000),
        written(b'["join",null,[["|u1",[1180591620717411303424]]]]'),
        written(b'["join",null,[["|u1",[-5]]]]'),
        written(b'["join",{"$array":0},[["|u1",[0,-1]]]]'),
    ],
)
def test_what_is_not_a_frame_is_refused(frame):
    with pytest.raises(frames.FrameError):
        frames.decode(frame)


@pytest.fixture
def pair():
    """A connection, and the other end of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, theirs:
        yield frames.Wire(ours), theirs


@pytest.mark.heavy
def test_a_message_that_is_too_long_is_not_read(pair):
    wire, theirs = pair
    theirs.sendall(frames.encode("join", "x" * 1000))
    with pytest.raises(frames.FrameError, match="too long"):
        wire.receive(5, most=100)


@pytest.mark.heavy
def test_a_connection_that_ends_within_a_message_is_lost(pair):
    wire, theirs = pair
    theirs.sendall(struct.pack("!4sIQ", frames.MARK, 10, 0) + b"[1")
    theirs.close()
    with pytest.raises(ConnectionError):
        wire.receive(5)


@pytest.mark.heavy
def test_a_machine_that_vanished_is_noticed_also_by_a_side_that_only_waits(pair):
    wire, _ = pair
    of = wire._socket.getsockopt
    assert of(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    most = of(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + of(
        socket.IPPROTO_TCP, socket.TCP_KEEPINTVL
    ) * of(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    assert most <= 60, "the system's own limit is two hours"
    # A learner waits for one host while the answers of others lie unread, perhaps for minutes.
    assert of(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@pytest.mark.heavy
def test_messages_that_come_together_or_in_pieces_are_read_one_by_one(pair):
    wire, theirs = pair
    bodies = [np.arange(n, dtype=np.int32) for n in (3, 0, 5, 50_000, 7)]
    sent = b"".join(frames.encode("step", body) for body in bodies)
    pieces = [sent[:90], sent[90:91], sent[91:]]
    sender = threading.Thread(target=lambda: [theirs.sendall(piece) for piece in pieces])
    sender.start()
    for body in bodies:
        kind, found = wire.receive(5)
        assert kind == "step" and found.dtype == body.dtype and found.tolist() == body.tolist()
        assert found.flags.writeable
    sender.join()


def test_a_template_gives_the_same_frame():
    for array in (np.arange(3.0), np.zeros((2, 0)), np.ones((3, 5), np.int8)):
        template = frames.array_template("step", array.dtype, array.shape)
        assert template.fill(array.tobytes()) == frames.encode("step", array)
