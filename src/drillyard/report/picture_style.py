"""How every picture of a report is drawn: style, colours, and the three forms of a picture.

Matplotlib draws without a display, in one style: no frame, a light grid, series named where they
end. Blue, orange and grey stay apart for every common kind of colour blindness, and line styles
differ too. The SVG inside the page carries CSS variables instead of colours, so that it follows a
light or dark page.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drillyard.errors import ConfigError, UserError
from drillyard.system.optional_packages import install
from drillyard.system.output_files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#16181d", "#5c6370", "#e3e5ea", "#fefefe"
BLUE, ORANGE, GREY = "#0064a8", "#b85600", "#868d99"
GREEN, VIOLET = "#1b6e3c", "#7b3fa0"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    BLUE: "--agent",
    ORANGE: "--reference",
    GREY: "--baseline",
    GREEN: "--good",
    VIOLET: "--other",
}
"""Colour of a file -> CSS variable of the page. No two are alike, so that this can be undone."""

STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (3, 1)))
"""Line styles, which differ where colours do not."""
WIDTH_IN = 8.8
PNG_DPI = 160
NARROW_IN = 4.2
"""Width of a picture for a phone: its letters are as large as those of the page there."""
_narrow: ContextVar[bool] = ContextVar("narrow", default=False)
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
        narrow: The same for a phone: panels stand below each other.
        svg: The SVG file, complete in itself.
        png: The PNG file, 160 dots an inch.
    """

    inline: str
    svg: bytes
    png: bytes
    narrow: str = ""

    def __repr__(self) -> str:
        return f"<picture of {len(self.svg):,} bytes as SVG; .save('picture.png')>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file.

        Args:
            path: Its ending decides: ``.png`` or ``.svg``.

        Raises:
            ConfigError: Another ending.
            StoreUnavailable: The file cannot be written.
        """
        file = Path(path)
        data = {".png": self.png, ".svg": self.svg}.get(file.suffix.lower())
        if data is None:
            raise ConfigError(
                "cannot be drawn in this format",
                field="path",
                value=str(path),
                allowed="a name that ends in .png or .svg",
                hint=f"save('{file.with_suffix('.png')}')",
            )
        with writing(file, "path"):
            file.write_bytes(data)
        return file


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


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    figsize: tuple[float, float],
    pads: tuple[float, float] = (0.04, 0.04),
    **more: Any,
) -> tuple[Figure, Any]:
    """A figure outside pyplot, and its axes; sizes and (h, w) pads in inches.

    In a picture for a phone, all panels are in one column; the axes have the shape that was asked
    for. Below such panels there is one legend of few columns.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(h_pad=pads[0], w_pad=pads[1])
    if not _narrow.get():
        figure = Figure(figsize=figsize, layout=engine)
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, **more)

    class OfAPhone(Figure):
        def legend(self, *of: Any, **how: Any) -> Any:
            return super().legend(*of, **{**how, "ncols": min(2, how.get("ncols", 1))})

    height = figsize[1] * (1 if columns == 1 else 0.8 * columns)
    figure = OfAPhone(figsize=(NARROW_IN, height), layout=engine)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows * columns, 1, **more)
    several = columns > 1 and getattr(axes, "size", 1) == rows * columns
    shape = (rows, columns) if rows > 1 or more.get("squeeze") is False else (columns,)
    return figure, axes.reshape(shape) if several else axes


def render(draw: Callable[[], Figure], prefix: str) -> Picture:
    """Draw a figure and save it in its three forms.

    Args:
        draw: Makes the figure; called within the style.
        prefix: Begins the ids of the inline SVG, so that a page may hold several.
    """
    with _matplotlib() as matplotlib:
        figure = draw()
        _lay_out(figure)
        png = _save(figure, "png", dpi=PNG_DPI, metadata={"Software": None})
        with matplotlib.rc_context({"svg.fonttype": "path"}):
            svg = _save(figure, "svg", metadata={"Date": None, "Creator": None})
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            text = _save(figure, "svg", metadata={"Date": None}, transparent=True).decode()
            phone = _for_a_phone(draw)
    inline = _inline(phone, f"{prefix}n") if phone else ""
    return Picture(_inline(text, prefix), svg, png, inline)


def _for_a_phone(draw: Callable[[], Figure]) -> str:
    """The SVG of the narrow form; empty where its labels leave no room: the wide one scrolls."""
    before = _narrow.set(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "constrained_layout not applied")
            figure = draw()
            _lay_out(figure)
            return _save(figure, "svg", metadata={"Date": None}, transparent=True).decode()
    except UserWarning:
        return ""
    finally:
        _narrow.reset(before)


def _lay_out(figure: Figure) -> None:
    """Places everything, once for all forms of a picture.

    With a layout engine, also with the engine "none", matplotlib draws twice for each file: the
    first time it only measures.

    Args:
        figure: A new figure.
    """
    figure.set_dpi(PNG_DPI)  # the sizes of letters depend on it a little
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)


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


# -- what several pictures have -------------------------------------------------------------------


def panels(number: int, columns: int, row_in: float, **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure of small multiples, row by row; places that are left over stay empty.

    Args:
        number: How many panels.
        columns: How many stand side by side.
        row_in: Height of a row in inches.
        **more: As ``subplots`` takes it.
    """
    rows = max(1, math.ceil(number / columns))
    size = (WIDTH_IN, more.pop("head_in", 0.0) + row_in * rows)
    figure, axes = subplots(rows, columns, figsize=size, squeeze=False, **more)
    flat = [axis for row in axes for axis in row]
    for axis in flat[number:]:
        axis.set_visible(False)
    return figure, flat[:number]


def over_steps(axis: Axes, ticks: int = 6) -> None:
    """Environment steps as the horizontal axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_xlabel("environment steps")
    axis.xaxis.set_major_locator(MaxNLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axis.xaxis.grid(False)


def short(x: float) -> str:
    """A number of steps for an axis: ``60k``, ``1.5M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def band(
    axis: Axes, row: float, ends: Iterable[float], colour: str, *, thin: bool = False
) -> None:
    """A horizontal bar from the least to the greatest value: an interval, or thin, a range."""
    known = list(ends)
    wide = {"linewidth": 9, "alpha": 0.3, "solid_capstyle": "butt"}
    style: Any = {"linewidth": 1.2, "alpha": 0.6} if thin else wide
    axis.plot([min(known), max(known)], [row, row], color=colour, **style)


def note(
    axis: Axes, text: str, at: tuple[float, float], by: tuple[float, float], **more: Any
) -> None:
    """A text near a point of the picture; its distance is in points."""
    style = {"color": MUTED, "textcoords": "offset points", **more}
    axis.annotate(text, at, xytext=by, **style)


def named_rows(axis: Axes, names: Sequence[str]) -> None:
    """One name for each row of the vertical axis, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.yaxis.grid(False)
