"""Rare failures: what a number of values shows, champions, baselines, and known ranges."""

from __future__ import annotations

import numpy as np
import pytest

from drillyard import statistics as st
from drillyard.results.formatting import beside
from drillyard.results.policies import AGENT, Evaluated, scores
from drillyard.spec.simulator.return_range import contradicted, return_range
from drillyard.statistics import intervals

CARTPOLE = [438.0, 305.0, 154.0, 500.0, 383.0]


def test_29_values_show_a_failure_of_one_in_ten():
    assert (st.needed(), st.needed(0.02)) == (29, 149)
    assert st.shows(28) < 0.95 <= st.shows(29)
    expected = "5 seeds show a failure of one in ten with 41 % probability (29 seeds: 95 %)"
    assert st.remark(5) == expected
    assert "30 episodes are enough to show" in st.remark(30, "episodes")


def test_an_interval_is_never_more_than_twice_as_wide_as_students_t():
    low, high = st.mean_interval(CARTPOLE) or (0, 0)
    assert 0 < low < 190 and high == pytest.approx(522.1, abs=0.1)
    data = np.random.default_rng(1).lognormal(0, 2, (2_000, 5))
    low_ends, high_ends = intervals.ends([data])
    t = 2 * intervals.student_t(0.975, 4) * data.std(axis=1, ddof=1) / np.sqrt(5)
    assert ((high_ends - low_ends) / t).max() <= 2 + 1e-9


def _beside_random(seeds: list[float], range_: tuple[float, float] | None = None) -> str:
    random = {"mean_return": 18.4, "std_return": 8.0, "n_episodes": 50, "ci95": [16.1, 20.7]}
    runs = [
        Evaluated(1, i, {AGENT: {"mean_return": v, "n_episodes": 50}, "random": random}, "cart")
        for i, v in enumerate(seeds)
    ]
    agent, best = scores(runs, {"cart": range_} if range_ else None)
    return f"{agent.interval} {beside(agent, best, 1)}"


def test_five_good_seeds_are_clearly_above_random_and_stay_in_the_range():
    said = _beside_random(CARTPOLE, (0.0, 500.0))
    assert "high=500.0" in said and "not clear" not in said
    assert "5 seeds show a failure of one in ten with 41 % probability" in said
    assert "not clear (p = " in _beside_random([18.0, 25.0, 15.0, 22.0, 17.0])
    assert "it is open" in _beside_random(CARTPOLE[:4])


def test_the_sentence_has_the_p_of_the_test_between_two_experiments():
    # A baseline that was measured without error is like runs that do not vary.
    p = st.against([CARTPOLE], [st.Fixed(100.0, 0.0, 10**6)])
    assert p == pytest.approx(st.welch(CARTPOLE, [100.0] * 5))
    assert st.against([[1.0] * 3], [st.Fixed(1.0, 0.0, 9)]) == 1.0
    assert st.against([[2.0] * 3], [st.Fixed(1.0, 0.0, 9)]) == pytest.approx(2 / 220)


def test_a_rare_failure_that_no_episode_had_makes_no_champion():
    champion = np.random.default_rng(2).normal(0, 10, 400).tolist()
    lucky = [value + 1 for value in champion]
    assert (
        "50 episodes show a failure of one in 50 with 64 % probability; a decision needs 149"
        in (st.obstacles(lucky[:50], champion[:50])[0])
    )
    assert not st.obstacles(lucky[:149], champion[:149])
    assert not st.obstacles(lucky[:29], champion[:29], rarest=0.1)


def test_a_higher_mean_with_worse_episodes_makes_no_champion():
    champion = np.random.default_rng(2).normal(100, 5, 200).tolist()
    better = [value + 20 for value in champion]
    assert not st.obstacles(better, champion)
    failing = [-50.0 if i % 50 == 0 else value for i, value in enumerate(better)]
    assert st.above([a - b for a, b in zip(failing, champion, strict=True)])
    (why,) = st.obstacles(failing, champion)
    assert "worst tenth" in why
    tail = st.tail(failing, champion)
    assert tail.failures == 4
    assert tail.at_most == pytest.approx(0.0452, abs=0.001)  # Clopper and Pearson


def test_ranges_are_declared_or_known():
    assert return_range({"id": "CartPole-v1"}) == (0, 500)
    assert return_range({"id": "CartPole-v1", "wrappers": [{"name": "x"}]}) is None
    assert return_range({"id": "mine:World", "return_range": [-1, 2]}) == (-1, 2)
    problem = contradicted({"id": "mine:World", "return_range": [-1, 2]}, [0.0, 3.5])
    assert problem is not None
    assert "a return of 3.5 is outside simulator.return_range, -1 to 2" in problem
    assert contradicted({"id": "CartPole-v1"}, [500.0, 1.0]) is None
