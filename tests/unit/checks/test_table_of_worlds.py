"""The table of check and run: what it calls a disagreement, and how it goes on after a slice."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from tests.benchmarks.simulators import worlds
from tests.benchmarks.simulators.__main__ import kept, pair, summary, tried

GOOD = {"refused": [], "fixed": True, "s": 1.0}
REFUSED = {"refused": ["no"], "fixed": True, "s": 1.0}
TRAINED = {"steps": 2000, "evaluated": True, "s": 1.0}
FAILED = {"failed": "no", "s": 1.0}


def answering(checked: dict[str, Any], trained: dict[str, Any]) -> Any:
    return lambda part, file, limit_s: dict(checked if part == "check" else trained)


@pytest.mark.parametrize(
    ("checked", "trained", "agrees"),
    [
        (GOOD, TRAINED, True),
        (GOOD, FAILED, False),
        (GOOD, {"steps": 2000, "s": 1.0}, False),
        ({**GOOD, "endless": True}, {"steps": 2000, "s": 1.0}, True),
        (REFUSED, FAILED, True),
        (REFUSED, TRAINED, False),
        ({**REFUSED, "fixed": False}, FAILED, False),
        ({"failed": "KeyError", "s": 1.0}, FAILED, False),
        (GOOD, {**FAILED, "unfinished": True}, True),  # it is counted by itself
    ],
)
def test_a_check_agrees_if_it_approves_what_trains_and_refuses_the_rest_with_a_fix(
    checked, trained, agrees
):
    found = pair({"id": "CartPole-v1"}, "ppo", 2000, answering(checked, trained))
    assert found["agrees"] == agrees


def test_all_worlds_meet_ppo_and_each_other_algorithm_meets_twenty():
    met = [algorithm for _, algorithm in worlds.pairs(list(worlds.ALGORITHMS))]
    assert met.count("ppo") == len(worlds.worlds()) >= 100
    assert {met.count(other) for other in worlds.ALGORITHMS if other != "ppo"} == {worlds.FEW}
    names = [worlds.shown(world) for world in worlds.worlds()]
    assert len(set(names)) == len(names)  # a slice knows a pair by its name


def test_a_slice_goes_on_with_what_is_missing(tmp_path):
    file = tmp_path / "pairs.jsonl"
    given = argparse.Namespace(
        only="CartPole-v1,Pendulum-v1",
        algorithms="ppo,dqn",
        results=file,
        seconds=None,
        steps=2000,
    )
    tried(given, answering(GOOD, TRAINED))
    first = file.read_text()
    file.write_text("\n".join(first.splitlines()[:3]) + "\n")
    results = tried(given, answering(GOOD, FAILED))
    assert [r["agrees"] for r in results] == [True, True, True, False]
    assert len(kept(file)) == 4
    said, good = summary(results)
    assert "4 pairs of 2 worlds and 2 algorithms" in said and "1 disagreements" in said
    assert not good
