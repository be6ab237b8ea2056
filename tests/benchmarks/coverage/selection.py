"""What a search picks: its best score, the same on fresh seeds, and what a champion beats."""

from __future__ import annotations

import math

import numpy as np

from drillyard.results.formatting import beside
from drillyard.results.model import Interval, PolicyScore
from drillyard.results.policies import over_seeds
from drillyard.spec.study import MoreSeedsSpec
from drillyard.statistics import METHOD, mean_interval, obstacles, shows, verdicts
from drillyard.statistics.intervals import ends
from drillyard.studies.comparing import verdict
from tests.benchmarks.coverage.comparisons import DEALT
from tests.benchmarks.coverage.data import KINDS, PAIRS
from tests.benchmarks.coverage.means import hits
from tests.benchmarks.coverage.tables import ERROR, HIGH, LOW, Run, show


def winner(run: Run) -> None:
    """The best of equal trials, and its run on fresh seeds."""
    rows = []
    for trials in (2, 5, 12, 20, 100):
        for n in (3, 5):
            rng = run.generator(10, trials, n)
            tries = max(500, run.tries // 10)
            data = rng.normal(size=(tries, trials, n))
            best = data.mean(axis=-1).argmax(axis=1)
            own = np.take_along_axis(data, best[:, None, None], axis=1)[:, 0]
            fresh = rng.normal(size=(tries, n))
            again, _ = hits(ends([fresh]), 0.0)
            noise = run.noise(0.95, tries)
            mark = run.must(
                LOW - noise <= again <= HIGH + noise,
                f"winner: again, {trials} trials: {again:.3f}",
            )
            rows.append(
                [
                    trials,
                    n,
                    f"{own.mean():.2f}",
                    f"{hits(ends([own]), 0.0)[0]:.2f}",
                    f"{fresh.mean():.2f}",
                    f"{again:.2f}{mark}",
                ]
            )
    show(
        "The winner of a search of equal trials",
        ("trials", "seeds", "too high by", "would hold", "fresh seeds", "held"),
        rows,
        "In deviations between seeds. The winner's own interval is not shown, the one on fresh "
        "seeds is.",
    )


EQUALS = {
    "normal": lambda rng, s: rng.normal(size=s),
    "heavy tails": lambda rng, s: rng.standard_t(3, s),
    "exponential": lambda rng, s: rng.exponential(size=s) - 1,
    "exponential, other side": lambda rng, s: 1 - rng.exponential(size=s),
    "log-normal, other side": lambda rng, s: math.exp(0.5) - rng.lognormal(0, 1, s),
    "+1, or -1": lambda rng, s: np.where(rng.random(s) < 0.5, -1.0, 1.0),
    "+1, or -9 in one of 10": lambda rng, s: np.where(rng.random(s) < 0.1, -9.0, 1.0),
    "+1, or -19 in one of 20": lambda rng, s: np.where(rng.random(s) < 0.05, -19.0, 1.0),
    "+1, or -49 in one of 50": lambda rng, s: np.where(rng.random(s) < 0.02, -49.0, 1.0),
    "+1, or -99 in one of 100": lambda rng, s: np.where(rng.random(s) < 0.01, -99.0, 1.0),
}
"""Differences whose mean is 0."""


def champion(run: Run) -> None:
    """A challenger that is as good as the champion, by n paired episodes; then a better one."""
    columns = ((50, 0.02), (150, 0.02), (300, 0.02), (30, 0.1), (60, 0.05))
    header = [
        f"{n}" if rarest == 0.02 else f"{n}, one in {1 / rarest:.0f}" for n, rarest in columns
    ]

    def promoted(challenger: np.ndarray, champion: np.ndarray, rarest: float) -> float:
        pairs = zip(challenger.tolist(), champion.tolist(), strict=True)
        return float(np.mean([not obstacles(a, b, 0.0, rarest) for a, b in pairs]))

    rows, tries = [], run.pages * 2
    for k, (name, draw) in enumerate(EQUALS.items()):
        row: list[object] = [name]
        for n, rarest in columns:
            gain = draw(run.generator(11, k, n), (tries, n))
            # Episodes differ far more than the two policies in each of them.
            base = 100 * run.generator(16, k, n).normal(size=(tries, n))
            share = promoted(base + gain, base, rarest)
            mark = ""
            if not name.endswith("in one of 100") and (rarest == 0.02 or "one of" not in name):
                mark = run.must(
                    share <= ERROR + run.noise(ERROR, tries),
                    f"champion: {name}, n = {n}: {share:.3f}",
                )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    run.promise(
        "P-champion",
        "How often an equal challenger becomes champion, by episodes (and the rarest failure)",
        ("differences", *header),
        rows,
        "At most 0.05, for failures that are at least as frequent as the rarest one.",
    )
    rows = []
    for k, (name, gap, failing) in enumerate(
        (
            ("better by a quarter of a deviation", 0.25, 0.0),
            ("by half a deviation", 0.5, 0.0),
            ("by one deviation", 1.0, 0.0),
            ("by one deviation, both fail in one of 20", 1.0, 0.05),
        )
    ):
        row = [name]
        for n, rarest in columns:
            rng, shape = run.generator(12, k, n), (run.pages, n)
            base = np.where(rng.random(shape) < failing, -50.0, 0.0) + rng.normal(size=shape)
            one, other = (base + rng.normal(size=shape) for _ in range(2))
            row.append(f"{promoted(one + gap, other, rarest):.2f}")
        rows.append(row)
    run.promise(
        "P-power",
        "How often a better challenger becomes champion",
        ("challenger", *header),
        rows,
        "A deviation: of what is a policy's own in an episode; what both share varies as much.",
    )


def baselines(run: Run) -> None:
    """The sentence about the agent beside the best of three baselines that are as good."""
    sizes, rows = (2, 3, 5, 10), []
    for k, name in enumerate(("normal", "skewed", "two groups", "capped", "one in five fails")):
        kind, row = KINDS[name], [name]
        for n in sizes:
            rng, clear = run.generator(13, k, n), 0
            deviation = float(kind.draw(rng, (100_000,)).std())
            for _ in range(run.pages):
                seeds = kind.draw(rng, (n,))
                agent = _score(
                    "agent",
                    float(seeds.mean()),
                    over_seeds(seeds.tolist()),
                    dict(enumerate(seeds.tolist())),
                )
                others = [kind.mean + deviation * rng.normal(size=40) for _ in range(3)]
                best = max(others, key=np.mean)
                found = mean_interval(best.tolist())
                assert found is not None
                rival = _score("rival", float(best.mean()), Interval(*found, "episodes", METHOD))
                clear += called(beside(agent, rival, 2))
            share = clear / run.pages
            mark = (
                ""
                if "fails" in name or name == "skewed"
                else run.must(
                    share <= ERROR + run.noise(ERROR, run.pages),
                    f"baselines: {name}, n = {n}: {share:.3f}",
                )
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    run.promise(
        "P-baseline",
        "How often the sentence calls an equal agent clearly above or below, by seeds",
        ("agent's seeds", *sizes),
        rows,
        "Three baselines of 40 episodes. At most 0.05, from 5 seeds on; fewer decide nothing. "
        "Skewed seeds and the last line have no target: what no seed had is in no test.",
    )


def called(sentence: str) -> bool:
    """Whether a sentence says that the agent is above or below the baseline."""
    return "not clear" not in sentence and "it is open" not in sentence


def shapes(run: Run) -> None:
    """Equal means, different shapes: how often each rule calls one better."""
    sizes, rows = (3, 4, 5, 8, 10, 20, 50), []
    for k, pair in enumerate(PAIRS):
        compared: list[object] = [pair.name, "`compare`"]
        beside_it: list[object] = ["", "the sentence beside a baseline"]
        for n in sizes:
            rng, tries = run.generator(15, k, n), run.pages * 2
            one, other = pair.one(rng, (tries, n)), pair.other(rng, (tries, n))
            wrong = clear = 0
            for page, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
                found = verdicts({"a": [a], "b": [b]}, dealt=DEALT, seed=page)
                wrong += found["a", "b"].word != "undecided"
                agent = _score("agent", float(np.mean(a)), None, dict(enumerate(a)))
                rival = PolicyScore("rival", True, pair.mean, None, {}, 200, None)
                clear += called(beside(agent, rival, 2))
            compared.append(f"{wrong / tries:.2f}")
            beside_it.append(f"{clear / tries:.2f}" if n >= 5 else "")
        rows += [compared, beside_it]
    chance = [f"{1 - shows(n):.2f}" for n in sizes]
    rows.append(["a failure of one in 10 is in no run", "0.9^n", *chance])
    run.promise(
        "P-shapes",
        "Equal means, different shapes: how often one is called better, by seeds",
        ("one; the other", "by", *sizes),
        rows,
        "The baseline always has the mean.",
    )


def _score(
    name: str, mean: float, interval: Interval | None, seeds: dict[int, float] | None = None
) -> PolicyScore:
    return PolicyScore(name, seeds is None, mean, interval, seeds or {}, 40, None)


def more_seeds(run: Run) -> None:
    """``seeds: auto``: the two best of equal trials, until they are told apart or at the cap."""
    rule, rows = MoreSeedsSpec(), []
    draws = {
        name: (KINDS[name].draw, KINDS[name].draw)
        for name in ("normal", "skewed", "two groups", "yes or no, half")
    }
    draws |= {pair.name: (pair.one, pair.other) for pair in PAIRS}
    for k, (name, (draw, steady)) in enumerate(draws.items()):
        row: list[object] = [name]
        for trials in (2, 5, 20) if name in KINDS else (2,):
            rng, wrong, pages = run.generator(14, k, trials), 0, run.pages
            for _ in range(pages):
                data = [list(draw(rng, (rule.start,))) for _ in range(trials - 1)]
                data.append(list(steady(rng, (rule.start,))))
                drawn = {id(own): draw for own in data[:-1]} | {id(data[-1]): steady}
                while True:
                    first, second = sorted(data, key=np.mean)[:-3:-1]
                    done, said = verdict(first, second, rule)
                    if done:
                        wrong += said.startswith("decided")
                        break
                    for own in (first, second):
                        if len(own) < rule.most:
                            own.extend(drawn[id(own)](rng, (1,)))
            share = wrong / pages
            mark = (
                ""
                if name not in KINDS
                else run.must(
                    share <= ERROR + run.noise(ERROR, pages),
                    f"seeds: auto: {name}, {trials} trials: {share:.3f}",
                )
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row + [""] * (4 - len(row)))
    run.promise(
        "P-auto",
        "How often `seeds: auto` tells the two best of equal trials apart",
        ("values", "2 trials", "5 trials", "20 trials"),
        rows,
        "At most 0.05 for trials of one shape; the pairs of shapes have no target.",
    )
