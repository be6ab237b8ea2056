"""From lines of a metric stream to points of a curve, and which of them are new."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

from drillyard.documents.json_types import JsonView
from drillyard.metrics.reader import StreamReader
from drillyard.metrics.streams import Line, with_usage

STREAMS = ("train", "evaluation", "timing", "telemetry")
"""Streams that are mirrored. Single episodes are not: a long run has millions; see monitor.csv."""

AZURE_NAMES = {
    "rollout/ep_rew_mean": "episode_reward_mean",
    "rollout/ep_len_mean": "episode_len_mean",
    "rollout/episodes": "episodes_total",
}
"""As users of Azure ML chart what is sent under our names, too."""

_T = TypeVar("_T")
MAX_NAME = 250
_ILLEGAL = re.compile(r"[^\w.\-/: ]")


class Point(NamedTuple):
    """A value of a curve."""

    key: str
    value: float
    timestamp_ms: int
    step: int


def safe_name(name: str) -> str:
    """A name that MLflow takes for a metric, parameter or tag; legal names stay as they are."""
    legal = posixpath.normpath(_ILLEGAL.sub("_", name).strip()).lstrip("/")
    while legal.startswith("../"):
        legal = legal[3:]
    return "_" if legal in (".", "..", "") else legal[:MAX_NAME]


def numbers(values: Mapping[str, JsonView], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers among values, nested ones by ``a/b``; texts, lists and nulls are left."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def points_of(line: Line) -> Iterator[Point]:
    """The points of a line and of the samples in it, each with its own time."""
    for entry in with_usage([line]):
        stamp, step = round(float(entry.get("time", 0.0)) * 1000), int(entry["step"])
        for name, value in numbers(entry.get("metrics", {})):
            yield Point(safe_name(name), value, stamp, step)


def as_in_azure(points: Iterable[Point]) -> Iterator[Point]:
    """The points, and those of ``AZURE_NAMES`` once more under the other name."""
    for point in points:
        yield point
        if point.key in AZURE_NAMES:
            yield point._replace(key=AZURE_NAMES[point.key])


def not_sent(points: Iterable[Point], floors: Mapping[str, int]) -> list[Point]:
    """Points after those that the server has: the x-axis never goes back.

    Args:
        points: In the order of their steps.
        floors: Key -> greatest step that the server has.
    """
    return [p for p in points if p.step > floors.get(p.key, -1)]


def changed(
    points: Iterable[Point], floors: Mapping[str, int], values: Mapping[str, float]
) -> list[Point]:
    """``not_sent``, and points of the last step whose value is another one by now.

    Args:
        points: In the order of their steps.
        floors: Key -> greatest step that the server has.
        values: Key -> the value there.
    """
    return [
        p
        for p in points
        if p.step > (floor := floors.get(p.key, -1))
        or (p.step == floor and p.value != values.get(p.key))
    ]


def new_lines(reader: StreamReader) -> list[Line]:
    """The lines of a run that a reader has not given before; all of them after a resume."""
    streams = STREAMS if reader.look() else ()
    return [line for stream in streams for line in reader.new(stream)]


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
