"""The pictures of a training: learning curves, evaluations, and episodes over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drillyard.report.data import CURVES, Episode, MeanCurve, Panel
from drillyard.report.picture_style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    WIDTH_IN,
    Picture,
    band,
    named_rows,
    note,
    over_steps,
    panels,
    render,
    subplots,
)
from drillyard.results import ExperimentResults, formatting
from drillyard.results.model import PolicyScore
from drillyard.results.policies import AGENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve(curves: Sequence[MeanCurve], results: ExperimentResults) -> Picture:
    """Return over steps: each seed thin, their mean thick with its band, baselines dashed."""

    def draw() -> Figure:
        figure, axes = panels(len(curves), len(curves), 3.5, pads=(0.04, 0.12), sharey=True)
        baselines = _within(curves, results)
        for axis, curve in zip(axes, curves, strict=True):
            _draw_curve(axis, curve)
            for _, value in baselines:
                axis.axhline(value, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        for name, level in _spread(baselines, axes[-1]):
            place = ("axes fraction", "data")
            note(axes[-1], name, (1.01, level), (0, 0), xycoords=place, va="center", fontsize=8.5)
        axes[0].set_ylabel("return of an episode")
        return figure

    return render(draw, "lc")


def _draw_curve(axis: Axes, curve: MeanCurve) -> None:
    several = len(curve.seeds) > 1
    for points in curve.seeds.values() if several else ():
        dots = "." if len(points) == 1 else None  # one point makes no line
        axis.plot(*zip(*points, strict=True), color=BLUE, linewidth=0.8, alpha=0.4, marker=dots)
    if curve.band:
        axis.fill_between(curve.steps, curve.low, curve.high, color=BLUE, alpha=0.15, linewidth=0)
    marker = "o" if len(curve.steps) <= 25 else None
    axis.plot(curve.steps, curve.mean, color=BLUE, linewidth=2, marker=marker, markersize=3.5)
    axis.set_title(CURVES[curve.kind].capitalize(), pad=20)
    text = f"mean of {len(curve.seeds)} seeds; band: {curve.band}" if several else "one seed"
    note(axis, text, (0, 1), (0, 6), xycoords="axes fraction", fontsize=8.5)
    axis.set_xlim(left=0)
    over_steps(axis)


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


def _spread(named: list[tuple[str, float]], axis: Axes) -> Iterator[tuple[str, float]]:
    """Heights for labels, at least a line apart."""
    values = [*axis.get_ylim(), *(v for _, v in named)]
    gap, before = (max(values) - min(values)) * 0.06, -math.inf
    for name, value in sorted(named, key=lambda n: n[1]):
        before = max(value, before + gap)
        yield name, before


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
            _draw_score(axis, row, p, colour)
            _beside(axis, row, formatting.fixed(p.mean_return, decimals), ends[0], not p.baseline)
            _beside(axis, row, formatting.interval(p.interval, decimals), ends[1], not p.baseline)
        named_rows(axis, [p.policy for p in policies])
        for label, p in zip(axis.get_yticklabels(), policies, strict=True):
            label.set_color(MUTED if p.baseline else INK)
            label.set_fontweight("normal" if p.baseline else "bold")
            label.set_fontsize(9.5)
        axis.set_ylim(len(policies) - 0.4, -0.6)
        axis.margins(x=0.06)
        axis.set_xlabel(quantity)
        _beside(axis, -0.75, "mean", ends[0], False)
        _beside(axis, -0.75, "95 % interval", ends[1], False)
        return figure

    return render(draw, "ev")


def _draw_score(axis: Axes, row: int, p: PolicyScore, colour: str) -> None:
    seeds = list(p.seeds.values())
    if p.interval is not None:
        band(axis, row, (p.interval.low, p.interval.high), colour)
    elif len(seeds) > 1:
        band(axis, row, seeds, colour, thin=True)
    if len(seeds) > 1:
        ticks: Any = {"markersize": 6, "markeredgewidth": 1.2}
        axis.plot(seeds, [row + 0.3] * len(seeds), "|", color=colour, **ticks)
    axis.plot([p.mean_return], [row], "o", markersize=5, color=colour)


def _columns(texts: Sequence[Sequence[str]]) -> list[float]:
    """Right ends of columns of text, in points to the right of the axes."""
    ends, end = [], 4.0
    for column in texts:
        end += 12 + 5.8 * max(map(len, column))
        ends.append(end)
    return ends


def _beside(axis: Axes, row: float, text: str, end: float, strong: bool) -> None:
    place: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right"}
    colour = INK if strong else MUTED
    note(axis, text, (1, row), (end, 0), color=colour, annotation_clip=False, **place)


def episode(episode_: Episode) -> Picture:
    """Small multiples over time: each state with its reference, the action, the reward."""
    drawn = episode_.panels[:12]

    def draw() -> Figure:
        pads = (0.09, 0.12)
        figure, axes = panels(len(drawn), 2, 1.55, head_in=0.55, pads=pads, sharex=True)
        for index, axis in enumerate(axes):
            _draw_panel(axis, episode_, drawn[index])
            if index + 2 >= len(drawn):
                axis.set_xlabel(f"time ({episode_.time_unit})")
                axis.tick_params(labelbottom=True)
        handles, labels = _legend(axes)
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
        figure, axes = panels(len(chosen), 2, 1.55, head_in=0.3, pads=(0.09, 0.12))
        for axis, (name, lines) in zip(axes, chosen, strict=True):
            for values, good in lines:
                steps, colour = range(1, len(values) + 1), BLUE if good else ORANGE
                axis.plot(steps, values, linewidth=1.0, alpha=0.8, color=colour)
            axis.set_title(name.removeprefix("state_"), pad=4)
            axis.set_xlabel("step")
            axis.margins(x=0)
        return figure

    return render(draw, "as")


def _draw_panel(axis: Axes, episode: Episode, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    style = "steps-post" if panel.kind == "action" else "default"
    first = next(iter(episode.policies))
    for name, columns in reversed(episode.policies.items()):
        if panel.column in columns:
            colour, width = (BLUE, 1.7) if name == first else (GREY, 1.2)
            line: Any = {"color": colour, "linewidth": width, "drawstyle": style}
            axis.plot(_time(columns), columns[panel.column], label=name, **line)
    policy = episode.policies[first]
    if panel.reference in policy:
        dashes: Any = {"color": ORANGE, "linewidth": 1.3, "linestyle": (0, (4, 2))}
        axis.plot(_time(policy), policy[panel.reference], label="reference", **dashes)
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
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = sorted(handles, key=lambda n: (n != AGENT, n != "reference", n))
    return [handles[n] for n in order], order
