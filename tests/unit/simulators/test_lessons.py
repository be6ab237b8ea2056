"""Lessons: forms, refusals, draws that depend on (seed, copy, episode) only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drillyard.errors import ConfigError
from drillyard.simulators.cstr import CstrEnv
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.wrappers import LessonWrapper
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import draw, draw_in_order, validate_lesson

LESSON = {
    "noise_percentage": {"min": 0, "max": 20},
    "Cref_signal": {"values": [1, 2, 3, 4, 5]},
    "step_time": 1,
}


def test_draws_keep_to_their_form():
    drawn = [draw(LESSON, 7, 0, e) for e in range(2000)]
    noise = np.array([d["noise_percentage"] for d in drawn])
    assert 0 <= noise.min() < 0.2
    assert 19.8 < noise.max() <= 20
    assert noise.mean() == pytest.approx(10, abs=0.5)
    counts = np.bincount([d["Cref_signal"] for d in drawn], minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 330).all()
    assert {d["step_time"] for d in drawn} == {1}


def test_the_other_forms_draw_what_they_say():
    lesson = {
        "log": {"min": 1, "max": 10_000, "log": True},
        "int": {"min": 1, "max": 3, "int": True},
        "both": {"min": 1, "max": 8, "log": True, "int": True},
        "often": {"values": ["a", "b"], "weights": [3, 1]},
        "normal": {"normal": {"mean": 5, "std": 2}},
        "cut": {"normal": {"mean": 5, "std": 2}, "min": 5, "max": 6},
    }
    validate_lesson(lesson)
    drawn = [draw(lesson, 1, 0, e) for e in range(4000)]
    column = {key: [d[key] for d in drawn] for key in lesson}
    assert np.mean(np.array(column["log"]) < 100) == pytest.approx(0.5, abs=0.03)
    assert 1 <= min(column["log"]) < 1.1
    assert 9000 < max(column["log"]) <= 10_000
    assert {type(v) for v in column["int"] + column["both"]} == {int}
    assert np.bincount(column["int"])[1:] == pytest.approx([1333] * 3, abs=120)
    assert set(column["both"]) == set(range(1, 9))
    # Evenly in the logarithm of [1, 9): each doubling is as likely.
    assert np.mean(np.array(column["both"]) == 1) == pytest.approx(np.log(2) / np.log(9), abs=0.03)
    assert column["often"].count("a") == pytest.approx(3000, abs=120)
    assert np.mean(column["normal"]) == pytest.approx(5, abs=0.15)
    assert np.std(column["normal"]) == pytest.approx(2, abs=0.1)
    assert 5 <= min(column["cut"]) < 5.01
    assert 5.99 < max(column["cut"]) <= 6


def test_more_copies_change_no_draw_of_those_there_were():
    def seen(n_envs: int) -> list[list[dict[str, Any]]]:
        spec = SimulatorSpec(id="simple-adder", lesson={"start": {"min": 0, "max": 100}})
        venv = make_vec(spec, n_envs, 7)
        venv.reset()
        found: list[list[dict[str, Any]]] = [[] for _ in range(n_envs)]
        for _ in range(50):
            _, _, dones, infos = venv.step(np.zeros(n_envs, np.int64))
            for copy in np.flatnonzero(dones):
                found[copy].append(infos[copy]["lesson"])
        return found

    two, five = seen(2), seen(5)
    assert two == five[:2]
    assert all(len(draws) == 5 for draws in five)


def test_a_draw_depends_on_seed_copy_and_episode_only():
    assert draw(LESSON, 7, 2, 9) == draw(dict(reversed(LESSON.items())), 7, 2, 9)
    others = [draw(LESSON, *key) for key in ((8, 2, 9), (7, 3, 9), (7, 2, 10))]
    assert draw(LESSON, 7, 2, 9) not in others
    # Neighbouring seeds and copies must not play the same lessons one copy apart.
    assert draw(LESSON, 7, 1, 0) != draw(LESSON, 8, 0, 0)


def test_evaluation_goes_through_values_in_order():
    lesson = {"a": {"values": [1, 2, 3]}, "b": {"values": ["x", "y"]}, "c": {"min": 0, "max": 1}}
    drawn = [draw_in_order(lesson, 1, e) for e in range(12)]
    assert [(d["a"], d["b"]) for d in drawn[:6]] == [
        (1, "x"),
        (2, "x"),
        (3, "x"),
        (1, "y"),
        (2, "y"),
        (3, "y"),
    ]
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
        ({"k": {"min": 0, "max": 1, "log": True}}, ["k.min", "logarithm"]),
        ({"k": {"min": 0, "max": 1.5, "int": True}}, ["k.max", "integer"]),
        ({"k": {"min": 0, "max": 1, "log": 1}}, ["k.log", "true"]),
        ({"k": {"min": 0, "max": 1, "lg": True}}, ["k.lg", "unknown", "log"]),
        ({"k": {"values": [1, 2], "weights": [1]}}, ["k.weights", "2 numbers"]),
        ({"k": {"values": [1, 2], "weights": [0, 0]}}, ["k.weights", "not all 0"]),
        ({"k": {"normal": {"mean": 0}}}, ["k.normal", "std"]),
        ({"k": {"normal": {"mean": 0, "std": 0}}}, ["k.normal.std", "positive"]),
        ({"k": {"normal": {"mean": 0, "std": 1}, "min": 50}}, ["k", "almost no value"]),
    ],
)
def test_other_forms_are_refused_by_name_not_skipped(lesson, words):
    with pytest.raises(ConfigError) as caught:
        validate_lesson(lesson)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.field.startswith("simulator.lesson.k")


def test_a_key_that_the_simulator_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="Cref_sinal") as caught:
        validate_lesson({"Cref_sinal": 1}, CstrEnv.reset_keys)
    assert "Cref_signal" in str(caught.value.hint)
    validate_lesson({"anything": 1})


def test_the_wrapper_draws_each_episode_and_a_seeded_reset_begins_anew():
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


def test_the_wrapper_goes_on_from_its_state():
    one, two = (LessonWrapper(CstrEnv(), LESSON, seed=s, copy=1) for s in (3, 4))
    for _ in range(7):
        one.reset()
    two.load_state(one.state())
    assert two.state() == one.state()
    for _ in range(5):
        one.reset()
        two.reset()
        assert one.unwrapped.state()["options"] == two.unwrapped.state()["options"]  # type: ignore[attr-defined]


def test_options_of_the_caller_win():
    env = LessonWrapper(CstrEnv(), {"Cref_signal": 2})
    env.reset(options={"Cref_signal": 6})
    assert env.unwrapped._signal == 6  # type: ignore[attr-defined]
