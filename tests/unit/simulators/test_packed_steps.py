"""A step in its shortest form says the same as a frame, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drillyard.simulators.hosts import frames
from drillyard.simulators.hosts.packed_steps import STEP, StepReader, StepWriter, is_packed

ACTIONS = [
    np.array([[0.1, -0.0], [np.nan, 1e-40]], np.float32),
    np.array([3, 7], np.int64),
    np.array([[True], [False]]),
]


def done(observation: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    return {"o": observation, "r": 0.1 + 0.2, "d": False, "t": False, "i": {}, **more}


def told(copy: StepReader, host: StepWriter, body: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether the answer was packed, and what the host reads."""
    data = copy.answer(body)
    if is_packed(data):
        return True, host.read(data)
    found = frames.decode(data)[1]
    host.heard(found)
    return False, found


@pytest.mark.parametrize("actions", ACTIONS, ids=lambda a: str(a.dtype))
def test_an_action_arrives_as_it_was_and_can_be_changed(actions: np.ndarray) -> None:
    copy = StepReader()
    _, about = frames.decode(
        frames.encode("layout", {"type": actions.dtype.str, "shape": list(actions.shape[1:])})
    )
    copy.learn(about)
    for place in range(len(actions)):
        found = copy.action(STEP + actions[place].tobytes())
        assert found.dtype == actions.dtype and found.shape == actions[place : place + 1].shape
        assert found.tobytes() == actions[place].tobytes()
        found[...] = 0  # some simulators clip in place


def test_only_the_first_answer_of_a_layout_is_a_frame() -> None:
    copy, host = StepReader(), StepWriter()
    rng = np.random.default_rng(1)
    for number in range(4):
        body = done({"": rng.normal(size=(3, 2)).astype(np.float32)}, d=number == 3)
        packed, found = told(copy, host, body)
        assert packed is (number > 0)
        assert found["o"][""].tobytes() == body["o"][""].tobytes()
        assert (found["r"], found["d"], found["t"]) == (body["r"], number == 3, False)


def test_infos_and_the_next_beginning_come_along() -> None:
    copy, host = StepReader(), StepWriter()
    seen = {"a": np.arange(3.0), "b": np.zeros((0, 2), np.int8)}
    told(copy, host, done(seen))
    more = {"i": {"terminal_observation": seen["a"], "n": np.float32(0.1)}, "j": {"start": [1]}}
    packed, found = told(copy, host, done(seen, d=True, t=True, **more))
    assert packed
    assert found["i"]["n"].dtype == np.float32 and found["j"] == {"start": [1]}
    assert found["i"]["terminal_observation"].tolist() == [0, 1, 2]
    assert found["o"]["b"].shape == (0, 2)
    packed, found = told(copy, host, done(seen))
    assert packed and not found.get("i") and not found.get("j")


def test_another_layout_is_said_again() -> None:
    copy, host = StepReader(), StepWriter()
    told(copy, host, done({"": np.zeros(3, np.float32)}))
    for array in (np.ones(3, np.float64), np.ones(4), np.ones((2, 2))):
        assert told(copy, host, done({"": array}))[0] is False
        packed, found = told(copy, host, done({"": array * 2}))
        assert packed and found["o"][""].tolist() == (array * 2).tolist()


def test_infos_that_cannot_be_sent_are_refused_and_leave_the_layout() -> None:
    copy, host = StepReader(), StepWriter()
    with pytest.raises(frames.FrameError):
        copy.answer(done({"": np.zeros(2)}, i={"x": object()}))
    assert told(copy, host, done({"": np.zeros(2)}))[0] is False
