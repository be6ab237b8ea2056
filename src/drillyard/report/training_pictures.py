"""The pictures of a training: learning curves, evaluations, and episodes over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drillyard.report.data import CURVES, Episode, MeanCurve
from drillyard.report.picture_style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    WIDTH_IN,
    Picture,
    render,
    subplots,
)
from drillyard.results import ExperimentResults, formatting
from drillyard.results.policies import AGENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve(curves: Sequence[MeanCurve], results: ExperimentResults) -> Picture:
    """Return over steps: each seed thin, their mean thick with its band, baselines dashed."""

    def draw() -> Figure:
        figure, axes = subplots(
            1,
            len(curves),
            figsize=(WIDTH_IN, 3.5),
            pads=(0.04, 0.12),
            sharey=True,
            squeeze=False,
        )
        baselines = _within(curves, results)
        for index, (axis, curve) in enumerate(zip(axes[0], curves, strict=True)):
            _draw_curve(axis, curve)
            last = index == len(curves) - 1
            for name, level in _spread(baselines, axis) if last else ():
                axis.annotate(
                    name[0],
                    (1.01, level),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=8.5,
                    color=MUTED,
                )
            for _, value in baselines:
                axis.axhline(value, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes[0][0].set_ylabel("return of an episode")
        return figure

    return render(draw, "lc")


def _draw_curve(axis: Axes, curve: MeanCurve) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    several = len(curve.seeds) > 1
    for points in curve.seeds.values() if several else ():
        dots = "." if len(points) == 1 else None  # one point makes no line
        axis.plot(*zip(*points, strict=True), color=BLUE, linewidth=0.8, alpha=0.4, marker=dots)
    if curve.band:
        axis.fill_between(curve.steps, curve.low, curve.high, color=BLUE, alpha=0.15, linewidth=0)
    marker = "o" if len(curve.steps) <= 25 else None
    axis.plot(curve.steps, curve.mean, color=BLUE, linewidth=2, marker=marker, markersize=3.5)
    axis.set_title(CURVES[curve.kind].capitalize(), pad=20)
    note = f"mean of {len(curve.seeds)} seeds; band: {curve.band}" if several else "one seed"
    axis.annotate(
        note,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        color=MUTED,
        textcoords="offset points",
        fontsize=8.5,
    )
    axis.set_xlabel("environment steps")
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axis.xaxis.grid(False)


def _within(curves: Sequence[MeanCurve], results: ExperimentResults) -> list[tuple[str, float]]:
    """Baselines that fit beside the curves without flattening them."""
    values = [v for c in curves for points in c.seeds.values() for _, v in points]
    low, high = min(values), max(values)
    room = 3.0 * ((high - low) or abs(high) or 1.0)
    return [
        (b.policy, b.mean_return)
        for b in results.baselines
        if low - room <= b.mean_return <= high + room
    ]


def _spread(
    named: list[tuple[str, float]], axis: Axes
) -> Iterator[tuple[tuple[str, float], float]]:
    """Heights for labels, at least a line apart."""
    low, high = axis.get_ylim()
    values = [v for _, v in named]
    low, high = min([low, *values]), max([high, *values])
    gap, before = (high - low) * 0.06, -math.inf
    for item in sorted(named, key=lambda n: n[1]):
        before = max(item[1], before + gap)
        yield item, before


def short(x: float) -> str:
    """A number of steps for an axis: ``60k``, ``1.5M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def evaluation(
    results: ExperimentResults,
    quantity: str = "return of an evaluation episode",
    colours: Mapping[str, str] | None = None,
) -> Picture:
    """A line a policy: its mean as a dot, its 95 % interval as a bar, each seed as a tick.

    Where there is no interval, a thin line is the range of the seeds.

    Args:
        results: Whose policies.
        quantity: What is measured.
        colours: Policy -> its colour, where lines stand for different experiments.
    """
    policies = list(results.policies)

    def draw() -> Figure:
        figure, axis = subplots(figsize=(WIDTH_IN, 0.75 + 0.42 * len(policies)))
        decimals = formatting.score_decimals(policies)
        ends = _columns(
            [
                ["mean", *(formatting.fixed(p.mean_return, decimals) for p in policies)],
                ["95 % interval", *(formatting.interval(p.interval, decimals) for p in policies)],
            ]
        )
        for row, p in enumerate(policies):
            colour = (colours or {}).get(p.policy, GREY if p.baseline else BLUE)
            if p.interval is not None:
                axis.plot(
                    [p.interval.low, p.interval.high],
                    [row, row],
                    color=colour,
                    linewidth=9,
                    alpha=0.3,
                    solid_capstyle="butt",
                )
            elif len(p.seeds) > 1:
                axis.plot(
                    [min(p.seeds.values()), max(p.seeds.values())],
                    [row, row],
                    color=colour,
                    linewidth=1.2,
                    alpha=0.6,
                )
            if len(p.seeds) > 1:
                axis.plot(
                    list(p.seeds.values()),
                    [row + 0.3] * len(p.seeds),
                    "|",
                    markersize=6,
                    color=colour,
                    markeredgewidth=1.2,
                )
            axis.plot([p.mean_return], [row], "o", markersize=5, color=colour)
            _beside(axis, row, formatting.fixed(p.mean_return, decimals), ends[0], not p.baseline)
            _beside(axis, row, formatting.interval(p.interval, decimals), ends[1], not p.baseline)
        axis.set_yticks(range(len(policies)), [p.policy for p in policies])
        for label, p in zip(axis.get_yticklabels(), policies, strict=True):
            label.set_color(MUTED if p.baseline else INK)
            label.set_fontweight("normal" if p.baseline else "bold")
            label.set_fontsize(9.5)
        axis.set_ylim(len(policies) - 0.4, -0.6)
        axis.margins(x=0.06)
        axis.yaxis.grid(False)
        axis.set_xlabel(quantity)
        _beside(axis, -0.75, "mean", ends[0], False)
        _beside(axis, -0.75, "95 % interval", ends[1], False)
        return figure

    return render(draw, "ev")


def _columns(texts: Sequence[Sequence[str]]) -> list[float]:
    """Right ends of columns of text, in points to the right of the axes."""
    ends, end = [], 4.0
    for column in texts:
        end += 12 + 5.8 * max(map(len, column))
        ends.append(end)
    return ends


def _beside(axis: Axes, row: float, text: str, end: float, strong: bool) -> None:
    axis.annotate(
        text,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(end, 0),
        textcoords="offset points",
        va="center",
        ha="right",
        annotation_clip=False,
        color=INK if strong else MUTED,
    )


def episode(found: Episode) -> Picture:
    """Small multiples over time: each state with its reference, the action, the reward."""
    panels = found.panels[:12]

    def draw() -> Figure:
        rows = math.ceil(len(panels) / 2)
        figure, axes = subplots(
            rows,
            2,
            figsize=(WIDTH_IN, 0.55 + 1.55 * rows),
            pads=(0.09, 0.12),
            sharex=True,
            squeeze=False,
        )
        flat = [axes[r][c] for r in range(rows) for c in range(2)]
        for index, axis in enumerate(flat):
            if index >= len(panels):
                axis.set_visible(False)
                continue
            _draw_panel(axis, found, index)
            if index + 2 >= len(panels):
                axis.set_xlabel(f"time ({found.time_unit})")
                axis.tick_params(labelbottom=True)
        handles, labels = _legend(flat[: len(panels)])
        figure.legend(
            handles, labels, loc="outside upper left", ncols=3, handlelength=2.2, borderaxespad=0.3
        )
        return figure

    return render(draw, "ep")


def paths(columns: dict[str, list[tuple[list[float], bool]]]) -> Picture:
    """Small multiples over steps: a line an episode.

    Args:
        columns: Name -> (values, whether it went well) of each episode; at most 12 are drawn.
    """
    chosen = list(columns.items())[:12]

    def draw() -> Figure:
        rows = max(1, math.ceil(len(chosen) / 2))
        figure, axes = subplots(
            rows, 2, figsize=(WIDTH_IN, 0.3 + 1.55 * rows), pads=(0.09, 0.12), squeeze=False
        )
        flat = [axes[r][c] for r in range(rows) for c in range(2)]
        for axis in flat[len(chosen) :]:
            axis.set_visible(False)
        for axis, (name, lines) in zip(flat, chosen, strict=False):
            for values, good in lines:
                axis.plot(
                    range(1, len(values) + 1),
                    values,
                    linewidth=1.0,
                    alpha=0.8,
                    color=BLUE if good else ORANGE,
                )
            axis.set_title(name.removeprefix("state_"), pad=4)
            axis.set_xlabel("step")
            axis.margins(x=0)
        return figure

    return render(draw, "as")


def _draw_panel(axis: Axes, found: Episode, index: int) -> None:
    from matplotlib.ticker import MaxNLocator

    panel = found.panels[index]
    style = "steps-post" if panel.kind == "action" else "default"
    first = next(iter(found.policies))
    for name, columns in reversed(found.policies.items()):
        if panel.column in columns:
            agent = name == first
            axis.plot(
                _time(columns),
                columns[panel.column],
                label=name,
                drawstyle=style,
                color=BLUE if agent else GREY,
                linewidth=1.7 if agent else 1.2,
            )
    own = found.policies[first]
    if panel.reference in own:
        axis.plot(
            _time(own),
            own[panel.reference],
            label="reference",
            color=ORANGE,
            linewidth=1.3,
            linestyle=(0, (4, 2)),
        )
    unit = f"  ({panel.unit})" if panel.unit else ""
    axis.set_title(panel.title + unit, pad=4)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.grid(False)
    axis.margins(x=0)


def _time(columns: dict[str, list[float]]) -> list[float]:
    if "t" in columns:
        return columns["t"]
    return [float(i) for i in range(max(len(v) for v in columns.values()))]


def _legend(axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    order = sorted(found, key=lambda n: (n != AGENT, n != "reference", n))
    return [found[n] for n in order], order
