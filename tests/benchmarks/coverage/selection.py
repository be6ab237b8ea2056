"""What a search picks: its best score, the same on fresh seeds, and what a champion beats."""

from __future__ import annotations

import math

import numpy as np

from drillyard.results.formatting import beside
from drillyard.results.model import Interval, PolicyScore
from drillyard.results.policies import over_seeds
from drillyard.spec.study import MoreSeedsSpec
from drillyard.statistics import METHOD, above, mean_interval
from drillyard.statistics.intervals import ends
from drillyard.studies.comparing import verdict
from tests.benchmarks.coverage.data import KINDS
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


def champion(run: Run) -> None:
    """A challenger that is as good as the champion, on n paired episodes."""
    sizes, rows = (2, 3, 5, 8, 10, 20, 50), []
    # Differences whose mean is 0; the sign of a skewed one says whose luck is rare.
    kinds = {
        name: (lambda rng, s, k=KINDS[name]: k.draw(rng, s) - k.mean)
        for name in ("normal", "skewed", "two groups", "heavy tails")
    }
    kinds["skewed, other side"] = lambda rng, s: 1 - rng.exponential(size=s)
    kinds["very skewed, other side"] = lambda rng, s: math.exp(0.5) - rng.lognormal(0, 1, s)
    kinds["one more or one less"] = lambda rng, s: np.where(rng.random(s) < 0.5, -1.0, 1.0)
    for k, (name, draw) in enumerate(kinds.items()):
        row: list[object] = [name]
        for n in sizes:
            data = draw(run.generator(11, k, n), (run.pages * 4, n))
            share = float(np.mean([above(own) for own in data.tolist()]))
            mark = (
                ""
                if name.startswith("very")
                else run.must(
                    share <= ERROR + run.noise(ERROR, run.pages * 4),
                    f"champion: {name}, n = {n}: {share:.3f}",
                )
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    for gap in (0.5, 1.0):
        row = [f"better by {gap:g} deviations"]
        for n in sizes:
            data = run.generator(12, n).normal(gap, 1, (run.pages, n))
            row.append(f"{np.mean([above(own) for own in data.tolist()]):.3f}")
        rows.append(row)
    show(
        "How often an equal challenger becomes champion, by episodes; below: a better one",
        ("differences", *sizes),
        rows,
        "At most 0.05. Losses that are rare and large are in few samples: they have no target.",
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
                clear += ";" not in beside(agent, rival, 2)
            share = clear / run.pages
            mark = (
                ""
                if "fails" in name
                else run.must(
                    share <= ERROR + run.noise(ERROR, run.pages),
                    f"baselines: {name}, n = {n}: {share:.3f}",
                )
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    show(
        "How often the sentence calls an equal agent clearly above or below, by seeds",
        ("agent's seeds", *sizes),
        rows,
        "Three baselines of 40 episodes. At most 0.05, from 5 seeds on; fewer decide nothing. "
        "A failure that no seed had is in no interval: the last line has no target.",
    )


def _score(
    name: str, mean: float, interval: Interval | None, seeds: dict[int, float] | None = None
) -> PolicyScore:
    return PolicyScore(name, seeds is None, mean, interval, seeds or {}, 40, None)


def more_seeds(run: Run) -> None:
    """``seeds: auto``: the two best of equal trials, until they are told apart or at the cap."""
    rule, rows = MoreSeedsSpec(), []
    for k, name in enumerate(("normal", "skewed", "two groups", "yes or no, half")):
        row: list[object] = [name]
        for trials in (2, 5, 20):
            rng, wrong, pages = run.generator(14, k, trials), 0, run.pages
            for _ in range(pages):
                data = [list(v) for v in KINDS[name].draw(rng, (trials, rule.start))]
                while True:
                    first, second = sorted(data, key=np.mean)[:-3:-1]
                    done, said = verdict(first, second, rule)
                    if done:
                        wrong += said.startswith("decided")
                        break
                    for own in (first, second):
                        if len(own) < rule.most:
                            own.extend(KINDS[name].draw(rng, (1,)))
            share = wrong / pages
            mark = run.must(
                share <= ERROR + run.noise(ERROR, pages),
                f"seeds: auto: {name}, {trials} trials: {share:.3f}",
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    show(
        "How often `seeds: auto` tells the two best of equal trials apart",
        ("values", "2 trials", "5 trials", "20 trials"),
        rows,
        "At most 0.05.",
    )
