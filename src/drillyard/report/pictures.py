"""The pictures of a report: as SVG inside the page, as SVG and PNG files beside it.

Drawn by matplotlib without a display, in one style: no frame, a light grid, series named where
they end. Blue, orange and grey stay apart for every common kind of colour blindness, and line
styles differ too. The SVG inside the page carries CSS variables instead of colours, so that it
follows a light or dark page.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drillyard.errors import UserError
from drillyard.report.data import CURVES, Episode, MeanCurve
from drillyard.results import ExperimentResults, formatting
from drillyard.results.policies import AGENT
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#16181d", "#5c6370", "#e3e5ea", "#fefefe"
BLUE, ORANGE, GREY = "#0064a8", "#b85600", "#868d99"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    BLUE: "--agent",
    ORANGE: "--reference",
    GREY: "--baseline",
}
"""Colour of a file -> CSS variable of the page. No two are alike, so that this can be undone."""

WIDTH_IN = 8.8
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": SURFACE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "drillyard",
    "axes.unicode_minus": True,
    "path.simplify": True,
    "text.parse_math": False,
    "figure.dpi": 100,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in its three forms.

    Attributes:
        inline: SVG element for the page, coloured by CSS variables.
        svg: The SVG file, complete in itself.
        png: The PNG file, 160 dots an inch.
    """

    inline: str
    svg: bytes
    png: bytes


def learning_curve(curves: Sequence[MeanCurve], results: ExperimentResults) -> Picture:
    """Return over steps: each seed thin, their mean thick with its band, baselines dashed."""

    def draw() -> Figure:
        figure, axes = _subplots(
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

    return _render(draw, "lc")


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
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
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


def _short(x: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def evaluation(results: ExperimentResults) -> Picture:
    """A line a policy: its mean as a dot, its 95 % interval as a bar, each seed as a tick.

    Where there is no interval, a thin line is the range of the seeds.
    """
    policies = list(results.policies)

    def draw() -> Figure:
        figure, axis = _subplots(figsize=(WIDTH_IN, 0.75 + 0.42 * len(policies)))
        decimals = formatting.score_decimals(policies)
        ends = _columns(
            [
                ["mean", *(formatting.fixed(p.mean_return, decimals) for p in policies)],
                ["95 % interval", *(formatting.interval(p.interval, decimals) for p in policies)],
            ]
        )
        for row, p in enumerate(policies):
            colour = GREY if p.baseline else BLUE
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
        axis.set_xlabel("return of an evaluation episode")
        _beside(axis, -0.75, "mean", ends[0], False)
        _beside(axis, -0.75, "95 % interval", ends[1], False)
        return figure

    return _render(draw, "ev")


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
        figure, axes = _subplots(
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

    return _render(draw, "ep")


def paths(columns: dict[str, list[tuple[list[float], bool]]]) -> Picture:
    """Small multiples over steps: a line an episode.

    Args:
        columns: Name -> (values, whether it went well) of each episode; at most 12 are drawn.
    """
    chosen = list(columns.items())[:12]

    def draw() -> Figure:
        rows = max(1, math.ceil(len(chosen) / 2))
        figure, axes = _subplots(
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

    return _render(draw, "as")


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


@contextmanager
def _matplotlib() -> Iterator[Any]:
    """The library in our style; without pyplot, so that no figure stays behind."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(
            "the report's pictures need matplotlib",
            hint=f"{install('control')}, or read the results by `drillyard results`",
        ) from error
    with matplotlib.rc_context(_STYLE):
        yield matplotlib


def _subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    figsize: tuple[float, float],
    pads: tuple[float, float] = (0.04, 0.04),
    **more: Any,
) -> tuple[Figure, Any]:
    """A figure outside pyplot, and its axes; sizes and (h, w) pads in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(h_pad=pads[0], w_pad=pads[1])
    figure = Figure(figsize=figsize, layout=engine)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **more)


def _render(draw: Callable[[], Figure], prefix: str) -> Picture:
    with _matplotlib() as matplotlib:
        figure = draw()
        png = _save(figure, "png", dpi=160, metadata={"Software": None})
        # Layout takes half of the time and would come out the same each time.
        figure.set_layout_engine("none")
        with matplotlib.rc_context({"svg.fonttype": "path"}):
            svg = _save(figure, "svg", metadata={"Date": None, "Creator": None})
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            text = _save(figure, "svg", metadata={"Date": None}, transparent=True).decode()
    return Picture(_inline(text, prefix), svg, png)


def _save(figure: Figure, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, **more)
    return out.getvalue()


def _inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of the page: own ids, page's font, CSS variables for colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]+)?", "var(--font)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
