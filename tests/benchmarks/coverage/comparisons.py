"""Comparisons of several: probability of improvement, profiles, verdicts, places, pruning."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import ndtr

from drillyard import statistics as st
from drillyard.report.comparison.trials import Scale
from drillyard.spec.study import PrunerSpec
from drillyard.statistics.comparing import improvement_ends
from drillyard.statistics.shares import effective, share_ends, shares_above
from drillyard.studies.pruning import optuna_pruner
from tests.benchmarks.coverage.data import KINDS
from tests.benchmarks.coverage.means import hits
from tests.benchmarks.coverage.tables import ERROR, LOW, Run, show

DEALT = 499
"""Ways of dealing that are drawn for a page here; the product draws 9,999."""


def improvement(run: Run) -> None:
    """Probability that a run of the one is better, over one and five tasks."""
    sizes, rows = ((3, 3), (5, 5), (10, 10), (20, 20), (3, 10)), []
    cases = {
        "normal, equal": (0.0, 1.0),
        "normal, 1 apart": (1.0, 1.0),
        "normal, 2 apart": (2.0, 1.0),
        "one varies three times as much": (0.0, 3.0),
        "one varies ten times as much": (0.0, 10.0),
    }
    for k, (name, (gap, spread)) in enumerate(cases.items()):
        for tasks in (1, 5):
            row: list[object] = [name, tasks]
            for m, n in sizes:
                rng, tries = run.generator(20, k, tasks, m, n), max(500, run.tries // 10)
                x = [rng.normal(gap, spread, (tries, m)) for _ in range(tasks)]
                y = [rng.normal(0, 1, (tries, n)) for _ in range(tasks)]
                _, low, high = improvement_ends(x, y)
                share, _ = hits((low, high), ndtr(gap / np.hypot(1, spread)))
                mark = ""
                if spread == 1:
                    mark = run.must(
                        share >= LOW - run.noise(0.95, tries),
                        f"improvement: {name}, {m}, {n}: {share:.3f}",
                    )
                row.append(f"{share:.2f}{mark}")
            rows.append(row)
    show(
        "Probability of improvement: share of 95 % intervals that hold the truth",
        ("runs", "tasks", *(f"{m} and {n}" for m, n in sizes)),
        rows,
        "0.93 at least; it is bounded, so it may hold more often.",
    )


def profiles(run: Run) -> None:
    """The share of runs above a score, at each of several scores."""
    sizes, rows = (3, 5, 10, 20, 50), []
    for tasks in (1, 5):
        for truth in (0.1, 0.3, 0.5, 0.9):
            row: list[object] = [f"{truth:g} above it", tasks]
            for n in sizes:
                rng, tries = run.generator(21, tasks, n, int(truth * 10)), run.tries // 4
                # Tasks of different difficulty, with the same mean.
                apart = np.linspace(-1, 1, tasks) * min(truth, 1 - truth) * (tasks > 1)
                data = [(rng.random((tries, n)) < truth + d).astype(float) for d in apart]
                seen = shares_above(data, [0.5])[..., 0]
                share, _ = hits(share_ends(seen, effective([n] * tasks)), truth)
                mark = run.must(share >= LOW, f"profile: {truth}, n = {n}: {share:.3f}")
                row.append(f"{share:.2f}{mark}")
            rows.append(row)
    show(
        "Performance profile: share of bands that hold the truth at a score",
        ("share of runs", "tasks", *sizes),
        rows,
        "0.93 at least; it is bounded, so it may hold more often.",
    )


CASES = {
    "normal": lambda rng, k, n: rng.normal(size=(k, n)),
    "skewed": lambda rng, k, n: rng.exponential(size=(k, n)),
    "one in five fails": lambda rng, k, n: KINDS["one in five fails"].draw(rng, (k, n)),
    "yes or no": lambda rng, k, n: (rng.random((k, n)) < 0.5).astype(float),
    "half vary three times as much": lambda rng, k, n: (
        rng.normal(size=(k, n)) * np.where(np.arange(k) % 2, 3, 1)[:, None]
    ),
    "half vary ten times as much": lambda rng, k, n: (
        rng.normal(size=(k, n)) * np.where(np.arange(k) % 2, 10, 1)[:, None]
    ),
    "one is far better": lambda rng, k, n: (
        rng.normal(size=(k, n)) + 50 * (np.arange(k) == 0)[:, None]
    ),
    "yes or no, one is far better": lambda rng, k, n: (
        (rng.random((k, n)) < 0.5) + 50.0 * (np.arange(k) == 0)[:, None]
    ),
}
GRID = (
    (2, 3),
    (2, 4),
    (2, 5),
    (2, 10),
    (5, 3),
    (5, 5),
    (5, 10),
    (10, 5),
    (20, 3),
    (20, 5),
    (20, 10),
)


HEADER = ("candidates x seeds", *(f"{k} x {n}" for k, n in GRID))


def verdicts(run: Run) -> None:
    """How often a page calls equal candidates better."""
    rows = []
    for c, (name, draw) in enumerate(CASES.items()):
        row: list[object] = [name]
        for k, n in GRID:
            if k == 2 and "far better" in name:
                row.append("")
                continue
            rng, wrong = run.generator(22, c, k, n), 0
            pages = 2 * run.pages if k == 2 else run.pages // (2 if k < 10 else 5)
            for page in range(pages):
                found = _verdicts(draw(rng, k, n), page)
                wrong += any(
                    v.word != "undecided"
                    for (a, b), v in found.items()
                    if "far better" not in name or "0" not in (a, b)
                )
            share = wrong / pages
            mark = run.must(
                share <= ERROR + run.noise(ERROR, pages),
                f"verdicts: {name}, {k} candidates, n = {n}: {share:.3f}",
            )
            row.append(f"{share:.3f}{mark}")
        rows.append(row)
    run.promise(
        "P-better",
        "Share of pages that call any of the equal ones better",
        HEADER,
        rows,
        f"At most 0.05 on the whole page. Of two candidates {2 * run.pages:,} pages, of five "
        f"{run.pages // 2}, of more {run.pages // 5}.",
    )


def power(run: Run) -> None:
    """How often a page finds one candidate that is better than the others, which are equal."""
    rows = []
    for gap in (1, 2, 3, 4, 6):
        row = [f"{gap} deviations"]
        for k, n in GRID:
            rng, right = run.generator(23, k, n, gap), 0.0
            pages = run.pages // 4 if k < 10 else run.pages // 16
            for page in range(pages):
                values = rng.normal(size=(k, n))
                values[0] += gap
                found = _verdicts(values, page)
                right += np.mean([found["0", str(i)].word == "better" for i in range(1, k)])
            row.append(f"{right / pages:.2f}")
        rows.append(row)
    show(
        "Power: share of the others that one candidate, better by so much, is told apart from",
        HEADER,
        rows,
    )


def _verdicts(values: np.ndarray, page: int) -> dict[tuple[str, str], st.Verdict]:
    own = {str(i): [v.tolist()] for i, v in enumerate(values)}
    return st.verdicts(own, dealt=DEALT, seed=page)


def bench(run: Run) -> None:
    """Algorithms on several simulators, brought to one scale: verdicts and places."""
    rows = []
    for tasks, n in ((2, 3), (2, 5), (5, 3), (5, 5)):
        rng, wrong, misplaced = run.generator(24, tasks, n), 0, 0
        pages = max(100, run.pages // 4)
        for page in range(pages):
            # a and b are equal, c is better by 3 deviations, each task has a scale of its own.
            raw = {
                name: [10.0**t * (rng.normal(size=n) + 3 * (name == "c")) for t in range(tasks)]
                for name in "abcd"
            }
            scales = [Scale.of(v for own in raw.values() for v in own[t]) for t in range(tasks)]
            scores = {
                name: [[scale(v) for v in task] for task, scale in zip(own, scales, strict=True)]
                for name, own in raw.items()
            }
            found = st.verdicts(scores, dealt=DEALT, seed=page)
            wrong += any(v.word != "undecided" for pair, v in found.items() if "c" not in pair)
            places = st.places(list(scores), found)
            misplaced += places["c"][0] != 1 or any(
                places[x][1] < 4 or places[x][0] > 2 for x in "abd"
            )
        share = wrong / pages
        mark = run.must(
            max(share, misplaced / pages) <= ERROR + run.noise(ERROR, pages),
            f"bench: {tasks} tasks, n = {n}: {share:.3f}",
        )
        rows.append(
            [f"{tasks} simulators, {n} seeds", f"{share:.3f}{mark}", f"{misplaced / pages:.3f}"]
        )
    show(
        "A benchmark of four algorithms, of which three are equal",
        ("", "equal ones told apart", "a wrong place"),
        rows,
        "At most 0.05.",
    )


def search_top(run: Run) -> None:
    """The best five of a search of equal trials, compared with each other."""
    rows = []
    for trials, n in ((12, 3), (40, 3), (40, 5)):
        rng, wrong, pages = run.generator(25, trials, n), 0, max(100, run.pages // 2)
        for page in range(pages):
            values = rng.normal(size=(trials, n))
            best = values[np.argsort(-values.mean(axis=1))[:5]]
            found = _verdicts(best, page)
            wrong += any(v.word != "undecided" for v in found.values())
        share = wrong / pages
        mark = run.must(
            share <= ERROR + run.noise(ERROR, pages),
            f"search: {trials} trials, n = {n}: {share:.3f}",
        )
        rows.append([f"{trials} trials, {n} seeds", f"{share:.3f}{mark}"])
    show(
        "The best five of a search of equal trials: pages that call one better",
        ("", "share"),
        rows,
        "At most 0.05.",
    )


def pruning(run: Run) -> None:
    """How often a trial that is as good as the best one is given up."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    rows = []
    specs = {
        "wilcoxon, p 0.1": PrunerSpec(type="wilcoxon"),
        "wilcoxon, p 0.02": PrunerSpec(type="wilcoxon", p=0.02),
        "median": PrunerSpec(type="median"),
        "halving": PrunerSpec(type="halving"),
    }
    pages = max(20, run.pages // 20)
    for s, (name, spec) in enumerate(specs.items()):
        rng, given, judged = run.generator(26, s), 0, 0
        for _ in range(pages):
            study = optuna.create_study(direction="maximize", pruner=optuna_pruner(spec))
            for number in range(12):
                trial = study.ask()
                values = rng.normal(size=8)
                cut = False
                for step, value in enumerate(values):
                    trial.report(float(value), step)
                    cut = trial.should_prune()
                    if cut:
                        break
                study.tell(
                    trial,
                    None if cut else float(values.mean()),
                    state=optuna.trial.TrialState.PRUNED if cut else None,
                )
                if number >= 5:
                    given, judged = given + cut, judged + 1
        rows.append([name, f"{given / judged:.2f}"])
    show(
        "Pruning: share of equal trials that are given up, the sixth to the twelfth of a study",
        ("rule", "given up"),
        rows,
        "No target: pruning saves time and claims nothing; equal trials are cut by chance.",
    )
