"""Which of several is better, and what a number of values shows about rare failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from scipy import stats

from drillyard import statistics as st
from drillyard.report.comparison.pairs import compared
from drillyard.results.formatting import beside
from drillyard.results.policies import AGENT, Evaluated, scores
from drillyard.spec.simulator.return_range import contradicted, return_range
from drillyard.statistics import intervals
from drillyard.statistics.verdicts import _permuted, _welch_p
from tests.benchmarks.coverage.data import KINDS
from tests.benchmarks.coverage.means import hits

# -- Which of several is better: equal ones are not, and what so many runs can decide ---------


Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def pages(draw: Draw, candidates: int, runs: int, tries: int = 100) -> float:
    """The share of pages of equal candidates that call any of them better."""
    rng = np.random.default_rng(candidates * 100 + runs)
    wrong = 0
    for _ in range(tries):
        values = draw(rng, candidates, runs)
        found = st.verdicts({str(i): [list(v)] for i, v in enumerate(values)}, dealt=499)
        wrong += any(v.word != "undecided" for v in found.values())
    return wrong / tries


@pytest.mark.parametrize(
    ("candidates", "runs"),
    [(2, 4), (2, 10), (5, 3), (5, 5), (5, 10), pytest.param(20, 5, marks=pytest.mark.heavy)],
)
def test_equal_candidates_are_told_apart_on_5_percent_of_pages_at_most(candidates, runs):
    def normal(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
        return rng.normal(size=(k, n))

    def two_kinds(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
        return (rng.random((k, n)) < 0.5) * 1.0

    def restless_half(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
        return rng.normal(size=(k, n)) * np.where(np.arange(k) % 2, 10, 1)[:, None]

    # Of 100 pages 5, and three standard errors of that: the measurement is the benchmark's.
    for draw in (normal, two_kinds, restless_half):
        assert pages(draw, candidates, runs) <= 0.11, draw.__name__


def test_equal_ones_beside_a_much_better_one_are_not_told_apart():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(150):
        values = rng.normal(size=(5, 3))
        values[0] += 500
        found = st.verdicts({str(i): [list(v)] for i, v in enumerate(values)}, dealt=499)
        assert all(v.word == "better" for pair, v in found.items() if pair[0] == "0")
        wrong += any(v.word != "undecided" for pair, v in found.items() if pair[0] != "0")
    assert wrong / 150 <= 0.10


def test_three_against_three_stay_undecided_and_four_against_four_do_not():
    far = st.verdicts({"a": [[1.0, 2.0, 3.0]], "b": [[101.0, 102.0, 103.0]]})
    assert far["a", "b"] == st.Verdict(-100.0, 0.1, "undecided")
    more = st.verdicts({"a": [[1.0, 2.0, 3.0, 4.0]], "b": [[101.0, 102.0, 103.0, 104.0]]})
    assert more["a", "b"].word == "worse"
    assert more["a", "b"].p == pytest.approx(2 / 70)


def test_without_three_runs_each_there_is_no_verdict():
    assert st.verdicts({"a": [[1.0, 2.0]], "b": [[101.0, 102.0, 103.0]]}) == {}
    assert st.verdicts({"a": [[1.0, 2.0, 3.0]]}) == {}


def test_few_ways_of_dealing_are_all_gone_through():
    a, b = [1.0, 5.0, 2.5, 7.0], [6.0, 8.0, 7.5, 9.0]
    scores = [[np.array(a)], [np.array(b)]]
    exact = stats.permutation_test(
        (a, b),
        lambda x, y: abs(stats.ttest_ind(x, y).statistic),
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    assert _permuted(scores, [(0, 1)], 9_999, 0) == pytest.approx([exact])
    drawn = _permuted(scores, [(0, 1)], 60, 0)  # fewer than the 70 there are
    assert drawn == pytest.approx([exact], abs=0.1)
    assert drawn[0] >= 1 / 61


def test_dealing_stays_inside_a_task():
    # 20 ways in each of two tasks: 400 in all, of which two are as far apart.
    scores = [
        [np.array([1.0, 2.0, 3.0]), np.array([101.0, 102.0, 103.0])],
        [np.array([11.0, 12.0, 13.0]), np.array([111.0, 112.0, 113.0])],
    ]
    assert _permuted(scores, [(0, 1)], 9_999, 0) == pytest.approx([2 / 400])


def test_welch_is_scipys_and_what_does_not_vary_is_counted():
    a, b = [1.0, 2.0, 3.0, 4.0], [3.0, 4.5, 6.0]  # not skewed
    assert st.welch(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert st.welch([1.0] * 3, [1.0] * 3) == 1.0
    assert st.welch([0.0] * 3, [1.0] * 3) == pytest.approx(0.1)
    both = [[np.zeros(3)] * 2, [np.ones(3)] * 2]
    assert _welch_p(both, [(0, 1)]) == pytest.approx([2 / 400])


def test_places_are_left_open_where_nothing_is_decided():
    rng = np.random.default_rng(0)
    scores = {
        name: [list(rng.normal(level, 1, 8))]
        for name, level in (("far", 50.0), ("near", 0.1), ("nearer", 0.0))
    }
    found = st.places(list(scores), st.verdicts(scores))
    assert found == {"far": (1, 1), "near": (2, 3), "nearer": (2, 3)}


def test_the_same_data_give_the_same_verdicts():
    rng = np.random.default_rng(3)
    scores = {str(i): [list(rng.normal(i, 1, 5))] for i in range(4)}
    assert st.verdicts(scores) == st.verdicts(scores)


# -- Rare failures: what a number of values shows, champions, baselines, and known ranges -----


CARTPOLE = [438.0, 305.0, 154.0, 500.0, 383.0]
MEASURED = files("drillyard.statistics").joinpath("measured.json")


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


def _beside_random(
    seeds: list[float], range_: tuple[float, float] | None = None, among: int = 1
) -> str:
    random = {"mean_return": 18.4, "std_return": 8.0, "n_episodes": 50, "ci95": [16.1, 20.7]}
    runs = [
        Evaluated(1, i, {AGENT: {"mean_return": v, "n_episodes": 50}, "random": random}, "cart")
        for i, v in enumerate(seeds)
    ]
    agent, best = scores(runs, {"cart": range_} if range_ else None)
    assert agent.interval is not None
    agent = replace(agent, interval=replace(agent.interval, among=among))
    return f"{agent.interval} {beside(agent, best, 1)}"


def test_five_good_seeds_are_clearly_above_random_and_stay_in_the_range():
    said = _beside_random(CARTPOLE, (0.0, 500.0))
    assert "high=500.0" in said and "not clear" not in said
    assert "5 seeds show a failure of one in ten with 41 % probability" in said
    assert "not clear (p = 0.070)" in _beside_random([28.0, 25.0, 19.0, 24.0, 27.0])
    assert "it is open" in _beside_random(CARTPOLE[:4])


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        ([30.0, 27.0, 26.0, 29.0, 28.0], "better"),
        ([8.0, 11.0, 12.0, 9.0, 10.0], "worse"),
        ([30.0, 27.0, 26.0, 29.0], "undecided"),  # fewer than five
        (CARTPOLE, "undecided"),  # p = 0.03, of which baselines get a fifth
        ([18.0, 25.0, 15.0, 22.0, 17.0], "undecided"),
    ],
)
def test_trials_are_beside_a_baseline_by_its_share_of_the_error(runs, word):
    random = st.Fixed.of(18.4, (16.1, 20.7), 50)
    (pair,) = compared({"trial": [runs]}, {"random": [random]})[0]
    assert (pair.other, pair.word) == ("random", word)


def test_trials_share_the_error_that_baselines_get():
    random, runs = st.Fixed.of(18.4, (16.1, 20.7), 50), [29.0, 23.0, 25.0, 28.0, 21.0]
    assert 0.005 < st.against([runs], [random]) <= 0.01
    for trials, word in ((1, "better"), (2, "undecided")):
        pairs, _ = compared({f"t{i}": [runs] for i in range(trials)}, {"random": [random]})
        assert {p.word for p in pairs if p.other == "random"} == {word}


def test_the_best_of_several_agents_needs_a_smaller_p_than_a_single_one():
    seeds = [34.0, 25.0, 18.0, 26.0, 27.0]
    assert "not clear" not in _beside_random(seeds)
    assert "not clear (p = 0.036)" in _beside_random(seeds, among=2)


def test_the_sentence_has_the_p_of_the_test_between_two_experiments():
    # A baseline that was measured without error is like runs that do not vary.
    p = st.against([CARTPOLE], [st.Fixed(100.0, 0.0, 10**6)])
    assert p == pytest.approx(st.welch(CARTPOLE, [100.0] * 5))
    assert st.against([[1.0] * 3], [st.Fixed(1.0, 0.0, 9)]) == 1.0
    assert st.against([[2.0] * 3], [st.Fixed(1.0, 0.0, 9)]) == pytest.approx(2 / 220)


@pytest.mark.parametrize("runs", [CARTPOLE, [0.0, 1.0, 2.0, 3.0, 20.0], [9.0, 9.5, 10.0, 2.0]])
def test_a_baseline_at_an_end_of_the_interval_has_a_p_of_5_percent(runs):
    """The test and the interval of the same runs agree, also if the runs are skewed."""
    for end in st.mean_interval(runs) or ():
        assert st.against([runs], [st.Fixed(end, 0.0, 9)]) == pytest.approx(0.05)


def test_a_pair_of_skewed_runs_has_one_p_in_either_order():
    low, high = [0.0, 1.0, 2.0, 3.0, 20.0], [24.0, 24.5, 25.0, 23.0]
    p = st.welch(low, high)
    assert st.welch(high, low) == pytest.approx(p)
    assert p > 1.1 * stats.ttest_ind(low, high, equal_var=False).pvalue


@pytest.mark.parametrize("ends", [(8.0, 10.5), (9.5, 12.0)])
def test_a_baseline_whose_interval_is_cut_is_as_uncertain_as_its_longer_side(ends):
    expected = 2.0 / stats.t.ppf(0.975, 49)
    assert st.Fixed.of(10.0, ends, 50).error == pytest.approx(expected)


def test_a_sharp_failure_of_one_in_ten_is_held_as_often_as_a_seed_has_it():
    for n, share in json.loads(MEASURED.read_text())["one in ten fails"].items():
        assert share == pytest.approx(st.shows(int(n)), abs=0.011), n
    kind = KINDS["one in ten fails"]
    data = kind.draw(np.random.default_rng(1), (4_000, 3))
    assert hits(intervals.ends([data]), kind.mean)[0] == pytest.approx(st.shows(3), abs=0.03)


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
