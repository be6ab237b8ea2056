"""Lessons: forms, refusals, draws that depend on (seed, copy, episode) only."""

from __future__ import annotations

import numpy as np
import pytest

from drillyard.errors import ConfigError
from drillyard.simulators.cstr import CstrEnv
from drillyard.simulators.lessons import draw, draw_in_order, validate_lesson
from drillyard.simulators.wrappers import LessonWrapper

LESSON = {
    "noise_percentage": {"min": 0, "max": 20},
    "Cref_signal": {"values": [1, 2, 3, 4, 5]},
    "step_time": 1,
}


def test_draws_keep_to_their_form() -> None:
    drawn = [draw(LESSON, 7, 0, e) for e in range(2000)]
    noise = np.array([d["noise_percentage"] for d in drawn])
    assert 0 <= noise.min() < 0.2
    assert 19.8 < noise.max() <= 20
    assert noise.mean() == pytest.approx(10, abs=0.5)
    counts = np.bincount([d["Cref_signal"] for d in drawn], minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 330).all()
    assert {d["step_time"] for d in drawn} == {1}


def test_a_draw_depends_on_seed_copy_and_episode_only() -> None:
    assert draw(LESSON, 7, 2, 9) == draw(dict(reversed(LESSON.items())), 7, 2, 9)
    others = [draw(LESSON, *key) for key in ((8, 2, 9), (7, 3, 9), (7, 2, 10))]
    assert draw(LESSON, 7, 2, 9) not in others
    # Neighbouring seeds and copies must not play the same lessons one copy apart.
    assert draw(LESSON, 7, 1, 0) != draw(LESSON, 8, 0, 0)


def test_evaluation_goes_through_values_in_order() -> None:
    lesson = {"a": {"values": [1, 2, 3]}, "b": {"values": ["x", "y"]}, "c": {"min": 0, "max": 1}}
    drawn = [draw_in_order(lesson, 1, e) for e in range(12)]
    assert [(d["a"], d["b"]) for d in drawn[:6]] == [
        (1, "x"), (2, "x"), (3, "x"), (1, "y"), (2, "y"), (3, "y"),
    ]  # fmt: skip
    assert len({d["c"] for d in drawn}) == 12
    assert drawn == [draw_in_order(lesson, 1, e) for e in range(12)]


@pytest.mark.parametrize(
    ("lesson", "words"),
    [
        ({"k": {"values": [1], "min": 0, "max": 1}}, ["k", "at once"]),
        ({"k": {"min": 0}}, ["k", "form"]),
        ({"k": {"mean": 0, "std": 1}}, ["k", "mean"]),
        ({"k": {"values": []}}, ["k", "at least one"]),
        ({"k": {"values": 3}}, ["k", "list"]),
        ({"k": {"min": 2, "max": 1}}, ["k", "larger"]),
        ({"k": {"min": "a", "max": 1}}, ["k.min", "number"]),
        ({"k": {"min": 0, "max": float("inf")}}, ["k.max", "finite"]),
        ({"k": [1, 2]}, ["k", "ambiguous"]),
        ({"k": float("nan")}, ["k", "finite"]),
    ],
)
def test_other_forms_are_refused_by_name_not_skipped(lesson: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_lesson(lesson)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.field is not None
    assert caught.value.field.startswith("simulator.lesson.k")


def test_a_key_that_the_simulator_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="Cref_sinal") as caught:
        validate_lesson({"Cref_sinal": 1}, CstrEnv.reset_keys)
    assert "Cref_signal" in str(caught.value.hint)
    validate_lesson({"anything": 1})


def test_the_wrapper_draws_each_episode_and_a_seeded_reset_begins_anew() -> None:
    env = LessonWrapper(CstrEnv(), {"Cref_signal": {"values": [2, 5, 6]}}, seed=3)

    def signals(n: int) -> list[int]:
        found = []
        for _ in range(n):
            env.reset()
            found.append(env.unwrapped._signal)  # type: ignore[attr-defined]
        return found

    first = signals(20)
    assert set(first) == {2, 5, 6}
    env.reset(seed=3)
    assert signals(19) == first[1:]


def test_the_wrapper_goes_on_from_its_state() -> None:
    one, two = (LessonWrapper(CstrEnv(), LESSON, seed=s, copy=1) for s in (3, 4))
    for _ in range(7):
        one.reset()
    two.load_state(one.state())
    for _ in range(5):
        one.reset()
        two.reset()
        assert one.unwrapped.state()["options"] == two.unwrapped.state()["options"]  # type: ignore[attr-defined]


def test_options_of_the_caller_win() -> None:
    env = LessonWrapper(CstrEnv(), {"Cref_signal": 2})
    env.reset(options={"Cref_signal": 6})
    assert env.unwrapped._signal == 6  # type: ignore[attr-defined]
