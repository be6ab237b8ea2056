"""The pictures of a comparison: learning curves together, and final evaluations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from drillyard.report import data, training_pictures
from drillyard.report.comparison.model import Comparison
from drillyard.report.data import CURVES, MeanCurve
from drillyard.report.picture_style import (
    BLUE,
    GREEN,
    ORANGE,
    STYLES,
    VIOLET,
    Picture,
    over_steps,
    panels,
    render,
)
from drillyard.results.model import PolicyScore
from drillyard.system.tables import to_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, VIOLET)
"""With five line styles, twenty lines differ."""
Curves = Mapping[str, Mapping[str, MeanCurve]]
"""Kind of curve -> label -> the curve."""


def colour_of(index: int) -> str:
    """The colour of a candidate in every picture."""
    return COLOURS[index % len(COLOURS)]


def curves_of(comparison: Comparison) -> dict[str, dict[str, MeanCurve]]:
    """The learning curves of all candidates, by kind; a kind that none has is left out."""
    by_kind: dict[str, dict[str, MeanCurve]] = {kind: {} for kind in CURVES}
    for candidate in comparison.candidates:
        for curve in data.curves(candidate.results):
            by_kind[curve.kind][candidate.label] = curve
    return {kind: curves for kind, curves in by_kind.items() if curves}


def curves(means: Curves, labels: Sequence[str]) -> Picture:
    """Mean curves with their bands: a panel for each kind, a line for each candidate.

    Args:
        means: The curves.
        labels: All candidates: a line looks the same in every panel.
    """

    def draw() -> Figure:
        height = 3.6 + 0.18 * (len(labels) // 4)
        figure, axes = panels(len(means), len(means), height, pads=(0.04, 0.12), sharey=True)
        for axis, (kind, by_label) in zip(axes, means.items(), strict=True):
            _draw(axis, kind, by_label, labels)
        axes[0].set_ylabel("return of an episode")
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        visible = [label for label in labels if label in handles]
        figure.legend(
            [handles[label] for label in visible],
            visible,
            loc="outside upper left",
            ncols=min(4, len(visible)),
            handlelength=3,
            borderaxespad=0.3,
        )
        return figure

    return render(draw, "cc")


def _draw(axis: Axes, kind: str, by_label: Mapping[str, MeanCurve], labels: Sequence[str]) -> None:
    for label, curve in by_label.items():
        at = labels.index(label)
        colour = colour_of(at)
        if curve.band:
            ends = (curve.low, curve.high)
            axis.fill_between(curve.steps, *ends, color=colour, alpha=0.12, linewidth=0)
        line = {"color": colour, "linestyle": STYLES[at % len(STYLES)], "linewidth": 1.9}
        dot = "o" if len(curve.steps) == 1 else None
        axis.plot(curve.steps, curve.mean, marker=dot, label=label, **line)
    axis.set_title(CURVES[kind].capitalize(), pad=6)
    axis.set_xlim(left=0)
    over_steps(axis)


def curves_csv(means: Curves) -> str:
    """Long form: one line for each curve, candidate and step."""
    rows: list[tuple[object, ...]] = []
    for kind, by_label in means.items():
        for label, c in by_label.items():
            points = zip(c.steps, c.mean, c.low, c.high, strict=True)
            head = (kind, label, len(c.seeds))
            rows += [
                (*head, step, mean, *((low, high) if c.band else (None, None)))
                for step, mean, low, high in points
            ]
    header = ("curve", "experiment", "n_seeds", "step", "mean", "band_low", "band_high")
    return to_csv(header, rows)


def evaluated(comparison: Comparison) -> list[PolicyScore]:
    """The candidates' scores, best first, then the baselines of their simulator."""
    scores = [s for s in comparison.scores if s is not None]
    if comparison.measure.startswith("return on "):
        scores += _baselines(comparison)
    return sorted(scores, key=lambda s: -s.mean_return)


def _baselines(comparison: Comparison) -> list[PolicyScore]:
    """Each baseline once; those that differ between experiments are called by both names."""
    simulator = comparison.measure.removeprefix("return on ")
    kept: dict[str, list[tuple[str, PolicyScore]]] = {}
    for c in comparison.candidates:
        for score in c.results.baselines:
            if score.simulator not in ("", simulator):
                continue
            same = kept.setdefault(score.policy, [])
            if all(score.mean_return != other.mean_return for _, other in same):
                same.append((c.label, score))
    return [
        score if len(same) == 1 else dataclasses.replace(score, policy=f"{name} ({label})")
        for name, same in kept.items()
        for label, score in same
    ]


def evaluation(comparison: Comparison) -> Picture:
    """A line for each candidate and baseline: mean, interval, every run."""
    results = dataclasses.replace(
        comparison.candidates[0].results, policies=tuple(evaluated(comparison))
    )
    label = (
        "return of an evaluation episode"
        if comparison.measure.startswith("return on ")
        else comparison.measure
    )
    colours = {name: colour_of(i) for i, name in enumerate(comparison.labels)}
    return training_pictures.evaluation(results, label, colours)


def evaluation_csv(comparison: Comparison) -> str:
    """One line for each run of a candidate, one for each baseline."""
    rows: list[tuple[object, ...]] = []
    for score in evaluated(comparison):
        if score.baseline:
            rows.append((score.policy, 1, None, score.mean_return))
        rows += [(score.policy, 0, seed, value) for seed, value in score.seeds.items()]
    return to_csv(("experiment", "baseline", "seed", comparison.measure), rows)
