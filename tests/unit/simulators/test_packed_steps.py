"""A step in its shortest form says the same as a frame, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drillyard.simulators.hosts import frames
from drillyard.simulators.hosts.packed_steps import (
    STEP,
    RowReader,
    RowWriter,
    StepReader,
    is_packed,
)

ACTIONS = [
    np.array([[0.1, -0.0], [np.nan, 1e-40]], np.float32),
    np.array([3, 7], np.int64),
    np.array([[True], [False]]),
]


def done(observation: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    return {"o": observation, "r": 0.1 + 0.2, "d": False, "t": False, "i": {}, **more}


class Pair:
    """A copy, and who reads its answers."""

    def __init__(self) -> None:
        self.copy = RowWriter()
        self.layout: list[Any] = []

    def told(self, body: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Whether the answer was packed, and what is read."""
        data = self.copy.answer(body)
        if not is_packed(data):
            kind, found = frames.decode(data)
            assert kind == "stepped"
            self.layout = found.pop("layout")
            return False, found
        reader = RowReader(self.layout)
        tail = data[reader.size :]
        rows = reader.read(data[: reader.size], {0: tail} if tail else {})
        found = {"o": {key: array[0] for key, array in rows["o"].items()}}
        found |= {key: rows[key][0] for key in ("r", "d", "t")}
        return True, found | {key: rows[key].get(0, {}) for key in ("i", "j")}


@pytest.mark.parametrize("actions", ACTIONS, ids=lambda a: str(a.dtype))
def test_an_action_arrives_as_it_was_and_can_be_changed(actions):
    copy = StepReader()
    copy.first(actions[:1])
    for place in range(len(actions)):
        found = copy.action(STEP + actions[place].tobytes())
        assert found.dtype == actions.dtype and found.shape == actions[place : place + 1].shape
        assert found.tobytes() == actions[place].tobytes() and found.flags.aligned
        found[...] = 0  # some simulators clip in place


def test_only_the_first_answer_of_a_layout_is_a_frame():
    pair, rng = Pair(), np.random.default_rng(1)
    for number in range(4):
        body = done({"": rng.normal(size=(3, 2)).astype(np.float32)}, d=number == 3)
        packed, found = pair.told(body)
        assert packed is (number > 0)
        assert found["o"][""].tobytes() == body["o"][""].tobytes()
        assert (found["r"], found["d"], found["t"]) == (body["r"], number == 3, False)


def infos(number: int) -> dict[str, Any]:
    """Each kind of info that a row has, and some that it has not."""
    return {
        "float": 0.1 * number,
        "int": number - 2,
        "bool": number % 2 == 0,
        "scalar": np.float32(0.1 * number),
        "array": np.arange(3, dtype=np.int16) + number,
        "empty": np.zeros((0, 2)),
        "text": f"at {number}",
        "without axis": np.array(number),
        "nested": {"list": [number, None], 3: np.bool_(True)},
    }


def same(a: Any, b: Any) -> bool:
    """Equal in every bit, and of the same types; the order of keys does not count."""
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and repr(a) == repr(b)


def test_infos_come_along_as_they_were():
    pair, seen = Pair(), {"a": np.arange(3.0), "b": np.zeros((0, 2), np.int8)}
    for number in range(3):
        packed, found = pair.told(done(seen, i=infos(number)))
        assert packed is (number > 0) and same(found["i"], infos(number))
    last = {**infos(3), "terminal_observation": seen["a"]}
    packed, found = pair.told(done(seen, d=True, t=True, i=last, j={"start": [1]}))
    assert packed and same(found["i"], last) and found["j"] == {"start": [1]}
    assert found["o"]["b"].shape == (0, 2)
    packed, found = pair.told(done(seen))
    assert found["i"] == {} and not found.get("j")


def test_an_info_that_comes_and_goes_leaves_the_layout_once():
    pair, seen = Pair(), {"": np.zeros(2)}
    odd = [{"x": 1.0, "n": 3}, {"x": 1.0, "n": 2.5}, {"x": 2.0}, {"x": 3.0, "n": 2**70}]
    told = [pair.told(done(seen, i=info)) for info in odd]
    assert [packed for packed, _ in told] == [False, False, True, True]
    assert all(same(found["i"], info) for (_, found), info in zip(told, odd, strict=True))


def test_an_end_without_the_usual_infos_keeps_the_layout():
    pair, seen = Pair(), {"": np.zeros(2)}
    pair.told(done(seen, i={"x": 1.0}))
    assert pair.told(done(seen, d=True, i={"why": "far"}))[1]["i"] == {"why": "far"}
    packed, found = pair.told(done(seen, i={"x": 2.0}))
    assert packed and found["i"] == {"x": 2.0} and len(pair.layout) == 2


def test_a_first_answer_that_ends_an_episode_says_no_lasting_layout():
    pair, seen = Pair(), {"": np.zeros(2)}
    pair.told(done(seen, d=True, i={"x": 1.0, "last": 2.0}))
    assert pair.told(done(seen, i={"x": 1.0}))[0] is False
    packed, found = pair.told(done(seen, i={"x": 2.0}))
    assert packed and found["i"] == {"x": 2.0} and len(pair.layout) == 2


def test_another_layout_is_said_again():
    pair = Pair()
    pair.told(done({"": np.zeros(3, np.float32)}))
    for array in (np.ones(3, np.float64), np.ones(4), np.ones((2, 2))):
        assert pair.told(done({"": array}))[0] is False
        packed, found = pair.told(done({"": array * 2}))
        assert packed and found["o"][""].tolist() == (array * 2).tolist()


def test_infos_that_cannot_be_sent_are_refused_and_leave_the_layout():
    pair = Pair()
    with pytest.raises(frames.FrameError):
        pair.told(done({"": np.zeros(2)}, i={"x": object()}))
    assert pair.told(done({"": np.zeros(2)}))[0] is False


def test_rows_of_several_copies_are_read_at_once():
    copies, datas = [RowWriter() for _ in range(3)], []
    layouts = [
        frames.decode(copy.answer(done({"": np.zeros(2)}, i={"n": 1})))[1]["layout"]
        for copy in copies
    ]
    for place, copy in enumerate(copies):
        datas.append(
            copy.answer(done({"": np.full(2, float(place))}, r=float(place), i={"n": place}))
        )
    assert layouts[0] == layouts[1] == layouts[2]
    found = RowReader(layouts[0]).read(b"".join(datas), {})
    assert found["o"][""].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found["r"].tolist() == [0, 1, 2] and found["i"] == {p: {"n": p} for p in range(3)}


@pytest.mark.parametrize(
    "layout", [[["o"]], [["o", "", "array", "O", []]], [["o", "", "array", "<f4", "x"]], 3]
)
def test_what_is_not_a_layout_is_refused(layout):
    with pytest.raises(frames.FrameError):
        RowReader(layout)


def test_rows_of_another_length_are_refused():
    with pytest.raises(frames.FrameError):
        RowReader([["o", "", "array", "<f4", [2]]]).read(bytes(20), {})
