"""Draws curves as SVG for a page that is drawn every few seconds.

Matplotlib takes half a second for a picture, and other machines than the driver's may not have it.
Colours are those of the report: CSS variables, with line styles that differ too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from drillyard.report.picture_style import short
from drillyard.results.model import Point

WIDE, NARROW, HEIGHT = 880, 350, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 96, 24, 40
COLOURS = ("--agent", "--reference", "--good", "--other", "--ink", "--bad")
DASHES = ("", "7 3", "2 3")
MOST_POINTS = 300
"""Points of a line that are drawn; more than a page has pixels look alike."""
_LABEL = 14.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]


def chart(series: Sequence[Series], y_title: str, width: int = WIDE) -> str:
    """An SVG element; every text in it is escaped.

    Args:
        series: The lines; each has a point.
        y_title: What the vertical axis shows.
        width: In pixels at the size at which its text is read; ``NARROW`` fits a phone.
    """
    lines = [(s, _thinned(s.points)) for s in series]
    steps = [p[0] for _, points in lines for p in points]
    values = [p[1] for _, points in lines for p in points if math.isfinite(p[1])] or [0.0]
    x_ticks = ticks(0, max(steps, default=1) or 1, 6 if width == WIDE else 2)
    y_ticks = ticks(min(values), max(values), 5)
    x_end = max(x_ticks[-1], max(steps, default=1))
    low, high = min(y_ticks[0], min(values)), max(y_ticks[-1], max(values))

    def x(step: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * step / x_end

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / ((high - low) or 1.0)

    parts = [
        f'<svg viewBox="0 0 {width} {HEIGHT}" aria-hidden="true" focusable="false" '
        'font-family="var(--font)" font-size="12">'
    ]
    for tick in y_ticks:
        at = y(tick)
        parts.append(_line((LEFT, at), (width - RIGHT, at), "--grid"))
        parts.append(_text(LEFT - 8, at + 4, f"{tick:,.6g}", "--muted", "end"))
    for tick in x_ticks:
        parts.append(_text(x(tick), HEIGHT - BOTTOM + 18, short(tick), "--muted", "middle"))
    middle = LEFT + (width - LEFT - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 4, "environment steps", "--muted", "middle"))
    parts.append(_text(LEFT - 8, 10, y_title, "--muted", "end"))
    labels: list[tuple[float, float, str]] = []
    for index, (entry, points) in enumerate(lines):
        places = [(x(step), y(value)) for step, value in points if math.isfinite(value)]
        if places:
            parts.append(_curve(index, places))
            labels.append((places[-1][0] + 7, places[-1][1] + 4, entry.name))
    parts += [_text(at, height, name, "--ink", "start") for at, height, name in _apart(labels)]
    return "".join([*parts, "</svg>"])


def _curve(index: int, places: Sequence[tuple[float, float]]) -> str:
    """A line, and a dot at its end."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    colour = COLOURS[index % len(COLOURS)]
    dash = DASHES[index // len(COLOURS) % len(DASHES)]
    style = f' stroke-dasharray="{dash}"' if dash else ""
    x, y = places[-1]
    return (
        f'<polyline points="{path}" fill="none" stroke="var({colour})" stroke-width="1.8" '
        f'stroke-linejoin="round"{style}/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var({colour})"/>'
    )


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``: steps of 1, 2 or 5 times 10^n."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    width = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
    first, last = math.floor(low / width), math.ceil(high / width)
    return [n * width for n in range(first, last + 1)]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Some of the points, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(i * last / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _apart(labels: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Labels moved down, and then up from the bottom, until no two lie on each other."""
    placed: list[tuple[float, float, str]] = []
    for at, height, name in sorted(labels, key=lambda label: label[1]):
        floor = placed[-1][1] + _LABEL if placed else TOP
        placed.append((at, max(height, floor), name))
    ceiling = float(HEIGHT - BOTTOM + 4)
    for index in range(len(placed) - 1, -1, -1):
        at, height, name = placed[index]
        placed[index] = at, min(height, ceiling), name
        ceiling = placed[index][1] - _LABEL
    return placed


def _line(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var({colour})"/>'
    )


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="var({colour})" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
