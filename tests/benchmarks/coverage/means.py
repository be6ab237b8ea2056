"""Intervals of means: over seeds, over episodes, of several lines at once, over several tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from drillyard.statistics.intervals import ends, student_t, together
from drillyard.statistics.scores import iqm_ends
from tests.benchmarks.coverage.data import KINDS, SIZES, Kind
from tests.benchmarks.coverage.tables import HIGH, LOW, Run, show


def hits(found: tuple[Any, Any], truth: Any) -> tuple[float, float]:
    """(share of intervals that hold the truth, share of data sets that have an interval)."""
    low, high = found
    shown = np.isfinite(low)
    held = ((low <= truth) & (truth <= high))[shown]
    return (float(held.mean()) if shown.any() else np.nan), float(shown.mean())


def from_when(sizes: Sequence[int], covered: Sequence[float]) -> str:
    """The smallest size from which on every coverage that was measured is enough."""
    enough: int | None = None
    for n, share in zip(reversed(sizes), reversed(covered), strict=True):
        if share < LOW:
            break
        enough = n
    return f"from {enough}" if enough is not None else f"above {sizes[-1]}"


def means(run: Run) -> None:
    """A mean over seeds, or over the episodes of one policy: the same rule."""
    sizes = SIZES[1:]
    rows, shown_rows, widths = [], [], []
    for k, kind in enumerate(KINDS.values()):
        covered, shown = [], []
        for n in sizes:
            data = kind.draw(run.generator(1, k, n), (run.tries, n))
            low, high = ends([data])
            share, there = hits((low, high), kind.mean)
            covered.append(round(share, 3))  # as it is kept
            shown.append(there)
            if k == 0:
                t = 2 * student_t(0.975, n - 1) * data.std(axis=1, ddof=1) / np.sqrt(n)
                widths.append((high - low) / t)
                run.must(LOW <= share <= HIGH, f"means: {kind.name}, n = {n}: {share:.3f}")
        kept = {n: round(c, 3) for n, c in zip(sizes, covered, strict=True) if np.isfinite(c)}
        run.kept[kind.name] = kept
        rows.append(
            [
                kind.name,
                *("" if np.isnan(c) else f"{c:.2f}" for c in covered),
                from_when(list(kept), list(kept.values())),
            ]
        )
        if min(shown) < 0.999:
            shown_rows.append([kind.name, *(f"{s:.2f}" for s in shown)])
    run.promise(
        "P-mean",
        "Mean over seeds, or over episodes: share of 95 % intervals that hold the truth",
        ("values", *sizes, "0.93"),
        rows,
        "Two values have no interval. Normal data have to be between 0.93 and 0.98.",
    )
    show(
        "Share of data sets that have an interval, where it is not all of them (values that are "
        "all alike have none)",
        ("values", *sizes),
        shown_rows,
    )
    worst = max(float(ratio.max()) for ratio in widths)
    run.must(worst <= 2 + 1e-9, f"widths: {worst:.3f} times Student's t")
    run.promise(
        "P-width",
        "How many times as wide as Student's t, normal data",
        ("", *sizes),
        [
            ["median", *(f"{np.median(ratio):.2f}" for ratio in widths)],
            ["mean", *(f"{ratio.mean():.2f}" for ratio in widths)],
            ["largest", *(f"{ratio.max():.2f}" for ratio in widths)],
        ],
    )


def at_once(run: Run) -> None:
    """The lines of a list: all intervals of a table hold at once, so the one on top does, too."""
    sizes, rows = (3, 5, 10, 20), []
    for k, kind in enumerate((KINDS["normal"], KINDS["skewed"], KINDS["two groups"])):
        for lines in (2, 5, 10, 20):
            row: list[object] = [kind.name, lines]
            for n in sizes:
                data = kind.draw(run.generator(2, k, lines, n), (run.tries // 4, lines, n))
                low, high = ends([data], confidence=together(lines))
                fine = np.where(np.isnan(low), True, (low <= kind.mean) & (kind.mean <= high))
                top = np.argmax(data.mean(axis=-1), axis=1)[:, None]
                alone_low, alone_high = ends([data])
                alone = np.take_along_axis(
                    (alone_low <= kind.mean) & (kind.mean <= alone_high), top, axis=1
                )
                share = float(fine.all(axis=1).mean())
                mark = ""
                if k == 0:
                    mark = run.must(
                        LOW <= share <= 0.985, f"at once: {lines} lines, n = {n}: {share:.3f}"
                    )
                row += [f"{share:.2f}{mark}", f"{alone.mean():.2f}"]
            rows.append(row)
    show(
        "A list: all lines hold at once (left); the top line by itself would hold (right)",
        ("values", "lines", *(x for n in sizes for x in (f"n = {n}", "top alone"))),
        rows,
    )


def _of_tasks(
    run: Run,
    number: int,
    title: str,
    found: Callable[[list[np.ndarray]], tuple[Any, Any]],
    truth: Callable[[Kind, int], float],
    *notes: str,
    from_: int = 3,
) -> None:
    sizes, rows = (3, 4, 5, 6, 8, 10, 15, 20, 50), []
    for k, kind in enumerate(KINDS.values()):
        if kind.name.startswith("yes") or kind.name in ("uniform", "a little skewed"):
            continue
        for tasks in (1, 2, 5):
            covered = []
            for n in sizes:
                rng = run.generator(number, k, tasks, n)
                data = [kind.draw(rng, (run.tries // 4, n)) for _ in range(tasks)]
                share, _ = hits(found(data), truth(kind, tasks))
                covered.append(share)
                if k == 0 and n >= from_:
                    noise = run.noise(0.95, run.tries // 4)
                    run.must(
                        LOW - noise <= share <= HIGH + noise,
                        f"{title}: {tasks} tasks, n = {n}: {share:.3f}",
                    )
            rows.append(
                [kind.name, tasks, *(f"{c:.2f}" for c in covered), from_when(sizes, covered)]
            )
    show(title, ("values", "tasks", *sizes, "0.93"), rows, *notes)


def aggregates(run: Run) -> None:
    """Mean and interquartile mean over tasks, as a benchmark shows them."""
    _of_tasks(run, 3, "Mean over tasks, n runs of each", ends, lambda kind, _: kind.mean)
    known: dict[str, float] = {}

    def middle(kind: Kind, _: int) -> float:
        if kind.name not in known:
            values = np.sort(kind.draw(run.generator(4), (4_000_000,)))
            known[kind.name] = float(values[1_000_000:3_000_000].mean())
        return known[kind.name]

    _of_tasks(
        run,
        5,
        "Interquartile mean over tasks, n runs of each",
        iqm_ends,
        middle,
        "The truth is the interquartile mean of the distribution.",
    )


def lessons(run: Run) -> None:
    """Episodes that go through a lesson's values in order: groups that are sampled apart."""
    rows = []
    for number in (12, 20, 40, 100):
        rng = run.generator(6, number)
        levels = np.array([0.0, 20.0, 40.0, 60.0])
        data = [level + 5 * rng.normal(size=(run.tries // 4, number // 4)) for level in levels]
        share, _ = hits(ends(data), levels.mean())
        flat, _ = hits(ends([np.concatenate(data, axis=1)]), levels.mean())
        mark = run.must(LOW <= share <= HIGH, f"lessons: {number} episodes: {share:.3f}")
        rows.append([number, f"{share:.3f}{mark}", f"{flat:.3f}"])
    show(
        "Mean over episodes that go through four values of a lesson",
        ("episodes", "by value", "as if by chance"),
        rows,
    )


def same_episodes(run: Run) -> None:
    """All seeds play the same episodes: what is common to them is in no interval over seeds."""
    rows = []
    for common in (0.0, 0.1, 0.2, 0.5, 1.0):
        row: list[object] = [f"{common:g}"]
        for n in (3, 5, 10):
            rng = run.generator(7, int(common * 10), n)
            shared = common * rng.normal(size=(run.tries, 1))
            found = ends([rng.normal(size=(run.tries, n)) + shared])
            row += [f"{hits(found, shared[:, 0])[0]:.2f}", f"{hits(found, 0.0)[0]:.2f}"]
        rows.append(row)
    show(
        "What an interval over seeds is about: the mean on the same episodes (left), on others "
        "(right)",
        ("error of the episodes", *(x for n in (3, 5, 10) for x in (f"n = {n}", "others"))),
        rows,
        "The error that the chosen episodes bring to all seeds alike, in deviations between "
        "seeds: more episodes make it smaller.",
    )
