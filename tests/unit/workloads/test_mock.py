"""The workload `mock`: its score, its noise, its curve."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.mailbox.records import Phase
from drillyard.metrics.streams import read_stream
from drillyard.spec.work import MockSpec
from drillyard.workloads.mock import score
from tests.helpers.workload_bench import Bench

GROUPS = {
    "g": {
        "params": {
            "level": {"type": "float", "range": [-1.0, 1.0], "default": 0.0, "special": [-9]},
            "size": {"type": "int", "range": [0, 10], "default": 5},
            "kind": {"type": "categorical", "values": ["a", "b", "c"], "default": "b"},
            "only": {"type": "categorical", "values": ["x"], "default": "x"},
        }
    },
    "other": {"params": {"unused": {"type": "int", "range": [0, 1], "default": 1}}},
}


def tree(values: dict[str, Any] | None = None, **mock: Any) -> dict[str, Any]:
    return {
        "workload": "mock",
        "mock": mock,
        "parameters": {
            "tunables": GROUPS,
            "tunable_params": ["g"],
            "tunable_values": values or {},
        },
    }


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, (0.25 + 0.25 + 0.25 + 0.0) / 4),
        ({"level": -1.0, "size": 0, "kind": "a"}, 0.0),
        ({"level": 1.0, "size": 10, "kind": "c"}, 0.75),
        ({"level": -9}, 0.5 / 4),
    ],
)
def test_the_score_is_the_mean_of_squares(tmp_path, values, wanted):
    """One value of a category counts 0 (no division by zero); special values are clipped."""
    assert Bench(tmp_path, tree(values)).metrics() == {"score": pytest.approx(wanted)}


def test_range_and_several_metrics(tmp_path):
    found = Bench(tmp_path, tree(metrics=["a", "b"], range=[-10, 10])).metrics()
    assert found == {"a": pytest.approx(-10 + 20 * 0.1875), "b": pytest.approx(-6.25)}


def noisy(bench: Bench, mock: MockSpec, seed: int, trial: int = 1) -> float:
    return score(bench.spec, mock, bench.run.parameters, seed, trial)


def test_noise_follows_the_seed(tmp_path):
    bench = Bench(tmp_path, tree())
    own, fixed = MockSpec(noise=0.1), MockSpec(noise=0.1, seed=7)
    chance = MockSpec(noise=0.1, seed="random")
    assert noisy(bench, own, 1) == noisy(bench, own, 1) != noisy(bench, own, 2)
    assert noisy(bench, fixed, 1) == noisy(bench, fixed, 2)
    assert noisy(bench, fixed, 1, trial=1) != noisy(bench, fixed, 1, trial=2)
    assert noisy(bench, chance, 1) != noisy(bench, chance, 1)
    values = [noisy(bench, own, seed) for seed in range(400)]
    assert abs(sum(values) / 400 - 0.1875) < 0.02
    assert all(0 <= v <= 1 for v in (noisy(bench, MockSpec(noise=5.0), s) for s in range(50)))


def test_a_curve_rises_to_the_score(tmp_path):
    bench = Bench(tmp_path, tree(points=4, range=[0, 100]))
    bench.train()
    lines = read_stream(bench.mailbox, "t0001-s1", "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    values = [line["metrics"]["score"] for line in lines]
    assert values == pytest.approx([18.75 / 4, 18.75 / 2, 18.75 * 3 / 4, 18.75])


def test_without_tunables_it_says_so(tmp_path):
    bench = Bench(tmp_path, {"workload": "mock"})
    assert bench.metrics() == {"score": 0.0}
    (finding,) = bench.workload.check(bench.spec, None)
    assert "no tunable is active" in finding.message
    assert bench.context(Phase.TRAIN).child == ""
