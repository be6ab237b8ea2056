"""The pictures of a study, in the style of the report: Optuna's numbers, drawn to fit the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drillyard.mailbox.status import Status
from drillyard.report.comparison.trials import TrialComparison
from drillyard.report.picture_style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    STYLES,
    WIDTH_IN,
    Picture,
    band,
    named_rows,
    note,
    panels,
    render,
    subplots,
)
from drillyard.results.trials import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREY, INK)
PARAMETERS = 6
AGAIN = "the winner once more"


def history(study: StudyResults) -> Picture:
    """Every trial's value in the order of choice, and the best so far."""
    name, sign = study.first.name, study.first.sign

    def draw() -> Figure:
        figure, axis = subplots(figsize=(WIDTH_IN, 3.0))
        good = [t for t in study.searched if t.status == Status.SUCCEEDED and name in t.values]
        cut = [t for t in study.searched if t.status == Status.PRUNED and name in t.values]
        for trials, marker, style in (
            (good, "o", {"color": GREY, "markersize": 4, "label": "trial"}),
            (cut, "x", {"color": MUTED, "markersize": 5, "label": "pruned"}),
        ):
            if trials:
                place = [t.number for t in trials], [t.values[name] for t in trials]
                axis.plot(*place, marker, **style)
        best, reached = -math.inf, []
        for t in good:
            best = max(best, sign * t.values[name])
            reached.append(sign * best)
        axis.step([t.number for t in good], reached, where="post", color=BLUE, label="best so far")
        again = study.confirmed
        if again is not None:
            dashes: Any = {"color": ORANGE, "linestyle": (0, (4, 2)), "linewidth": 1.3}
            axis.axhline(again.values[name], label=AGAIN, **dashes)
        axis.set_xlabel("trial")
        axis.set_ylabel(name)
        figure.legend(loc="outside upper left", ncols=4)
        return figure

    return render(draw, "sh")


def importances(shares: dict[str, float]) -> Picture:
    """A bar a parameter: its share of what the trials' values vary."""

    def draw() -> Figure:
        names = list(shares)[:12]
        figure, axis = subplots(figsize=(WIDTH_IN, 0.7 + 0.34 * len(names)))
        axis.barh(range(len(names)), [shares[n] for n in names], color=BLUE, height=0.6)
        for row, n in enumerate(names):
            note(axis, f"{shares[n]:.2f}", (shares[n], row), (5, 0), va="center")
        named_rows(axis, names)
        axis.set_xlim(0, max(shares.values()) * 1.12 or 1)
        axis.set_xlabel("importance")
        return figure

    return render(draw, "si")


def slices(
    study: StudyResults, names: list[str], log: set[str], choices: Mapping[str, list[str]]
) -> Picture:
    """A panel a parameter: every trial's value over it; the winner stands out."""
    names = names[:PARAMETERS]
    metric, ranked = study.first.name, study.ranked()

    def draw() -> Figure:
        columns = min(3, len(names))
        pads = (0.09, 0.08)
        figure, axes = panels(len(names), columns, 2.1, head_in=0.3, sharey=True, pads=pads)
        for axis, n in zip(axes, names, strict=True):
            place, labels = _places([t.assignment.get(n) for t in ranked], choices.get(n))
            axis.plot(place, [t.values[metric] for t in ranked], "o", color=GREY, markersize=3.5)
            axis.plot(place[:1], [ranked[0].values[metric]], "o", color=BLUE, markersize=6)
            if labels:
                axis.set_xticks(range(len(labels)), labels)
                axis.set_xlim(-0.5, len(labels) - 0.5)
            elif n in log and min(place) > 0:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                axis.xaxis.set_minor_formatter(lambda _x, _: "")
            axis.set_xlabel(n)
        for axis in axes[::columns]:
            axis.set_ylabel(metric)
        return figure

    return render(draw, "sl")


_MARKS = {
    -1: ((0, -10), "center", "top"),
    0: ((4, 0), "left", "center"),
    1: ((0, 6), "center", "bottom"),
}
"""Below an axis, on it, above it -> distance and alignment of a text."""


def parallel(study: StudyResults, names: list[str], choices: Mapping[str, list[str]]) -> Picture:
    """A line a trial through all its parameters; the best tenth in colour."""
    names = names[:8]
    metric, ranked = study.first.name, study.ranked()[:500]
    strong = max(1, len(ranked) // 10)

    def draw() -> Figure:
        figure, axis = subplots(figsize=(WIDTH_IN, 3.2))
        lines: list[list[float]] = []
        texts: list[list[tuple[float, str]]] = []
        for n in [*names, metric]:
            values = [t.values[metric] if n == metric else t.assignment.get(n) for t in ranked]
            place, labels = _places(values, choices.get(n))
            low, high = min(place), max(place)
            if labels:
                low, high = 0.0, float(len(labels) - 1)
                texts.append([(i / high if high else 0.5, t) for i, t in enumerate(labels)])
            else:
                texts.append([(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")])
            lines.append([(p - low) / (high - low) if high > low else 0.5 for p in place])
        for i in reversed(range(len(ranked))):
            colour, width, alpha = (BLUE, 1.6, 1.0) if i < strong else (GREY, 0.6, 0.5)
            heights = [line[i] for line in lines]
            axis.plot(range(len(lines)), heights, color=colour, linewidth=width, alpha=alpha)
        for x, marks in enumerate(texts):
            for y, text in marks:
                by, across, up = _MARKS[(y >= 1) - (y <= 0)]
                note(axis, text, (x, y), by, ha=across, va=up, fontsize=8)
        axis.set_xticks(range(len(lines)), [*names, metric])
        axis.tick_params(axis="x", pad=16)
        axis.set_yticks([])
        axis.set_ylim(-0.06, 1.06)
        return figure

    return render(draw, "sp")


def _places(values: list[Any], choices: list[str] | None = None) -> tuple[list[float], list[str]]:
    """Where values stand on an axis, and the labels of one that has words or choices."""
    if choices is not None and all(str(v) in choices for v in values):
        return [float(choices.index(str(v))) for v in values], choices
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return [float(v) for v in values], []
    labels = sorted({str(v) for v in values})
    return [float(labels.index(str(v))) for v in values], labels


def estimates(comparison: TrialComparison) -> Picture:
    """A line each: the interquartile mean as a dot, its interval as a bar.

    What was chosen by these numbers is a circle without a bar; below it is the run on fresh seeds.
    """
    lines = [(who, comparison.estimates[who]["iqm"]) for who in comparison.names]
    if comparison.again is not None:
        lines.append((AGAIN, comparison.again))

    def draw() -> Figure:
        figure, axis = subplots(figsize=(WIDTH_IN, 0.75 + 0.4 * len(lines)))
        for row, (who, iqm) in enumerate(lines):
            colour = ORANGE if who == AGAIN else BLUE if row == 0 else GREY
            if iqm.low is not None and iqm.high is not None:
                band(axis, row, (iqm.low, iqm.high), colour)
            fill: Any = "none" if comparison.chosen and who != AGAIN else "full"
            axis.plot([iqm.value], [row], "o", color=colour, markersize=5, fillstyle=fill)
        named_rows(axis, [who for who, _ in lines])
        axis.margins(x=0.06, y=0.15)
        axis.set_xlabel(f"interquartile mean of {comparison.score}")
        return figure

    return render(draw, "se")


def profile(comparison: TrialComparison) -> Picture:
    """Share of runs above each score, a line each with its band."""

    def draw() -> Figure:
        figure, axis = subplots(figsize=(WIDTH_IN, 3.2))
        for i, who in enumerate(comparison.names[: len(STYLES)]):
            _draw_profile(axis, comparison, who, i)
        axis.set_xlabel(comparison.score)
        axis.set_ylabel("share of runs above it")
        axis.set_ylim(-0.02, 1.02)
        figure.legend(loc="outside upper left", ncols=4, handlelength=3)
        return figure

    return render(draw, "sf")


def _draw_profile(axis: Axes, comparison: TrialComparison, who: str, i: int) -> None:
    p = comparison.profiles[who]
    colour = COLOURS[i % len(COLOURS)]
    axis.fill_between(p.thresholds, p.low, p.high, color=colour, alpha=0.1, linewidth=0)
    axis.plot(p.thresholds, p.share, color=colour, linestyle=STYLES[i], label=who, linewidth=1.7)
