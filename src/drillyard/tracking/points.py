"""From lines of a metric stream to points of a curve, and which of them are new.

``StreamTail`` follows the streams of one run by their immutable segments: a poll costs one listing
a stream and reads only what it has not seen.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from drillyard.documents.json_types import JsonView
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import AttemptStart, Phase
from drillyard.metrics.streams import Line, read_stream, with_usage

STREAMS = ("train", "evaluation", "timing", "telemetry")
"""Streams that are mirrored. Single episodes are not: a long run has millions; see monitor.csv."""

AZURE_NAMES = {
    "rollout/ep_rew_mean": "episode_reward_mean",
    "rollout/ep_len_mean": "episode_len_mean",
    "rollout/episodes": "episodes_total",
}
"""As users of Azure ML chart what is sent under our names, too."""

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
    for one in with_usage([line]):
        stamp, step = round(float(one.get("time", 0.0)) * 1000), int(one["step"])
        for name, value in numbers(one.get("metrics", {})):
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


@dataclass
class StreamTail:
    """Follows the streams of a run.

    Attributes:
        mailbox: Where.
        run: The run.
        attempt: The attempt that was read last; None before the first read.
    """

    mailbox: Mailbox
    run: str
    attempt: int | None = None
    _next: dict[str, int] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)
    _reading: int = 0

    def read(self, attempt: int) -> tuple[list[Line], bool]:
        """Lines that were not read and committed yet.

        Args:
            attempt: The attempt whose merged streams count now.

        Returns:
            The lines, and True when they are the whole streams from the start (the first read,
            or another attempt than last time) rather than what came since.
        """
        whole = attempt != self.attempt
        lines: list[Line] = []
        self._read = {} if whole else dict(self._next)
        for stream in STREAMS:
            if whole:
                found = read_stream(self.mailbox, self.run, stream, attempt)
            else:
                found = list(self._since(attempt, stream, self._next.get(stream, 0)))
            if found:
                self._read[stream] = found[-1]["seq"] + 1
            lines += found
        self._reading = attempt
        return lines, whole

    def commit(self) -> None:
        """Commits what was read last; the next read continues after it."""
        self.attempt, self._next = self._reading, dict(self._read)

    def _since(self, attempt: int, stream: str, first: int) -> Iterator[Line]:
        folder = f"{self.mailbox.attempt_path(self.run, Phase.TRAIN, attempt)}/streams/{stream}/"
        for info in self.mailbox.store.list(self.mailbox.key(folder)):
            if int(info.key.rsplit("/", 1)[-1].split(".", 1)[0]) < first:
                continue  # a segment never grows: one that begins before `first` ends before it
            for text in self.mailbox.store.get(info.key).decode().splitlines():
                yield json.loads(text)


def newest_attempt(mailbox: Mailbox, run: str, claimed: int | None) -> int | None:
    """The training attempt whose streams count: the accepted one, else the newest that began.

    Args:
        mailbox: Where.
        run: The run.
        claimed: The greatest attempt number of the ticket, from its state.
    """
    accepted = mailbox.accepted(run, Phase.TRAIN)
    if accepted is not None:
        return accepted.attempt
    for attempt in range(claimed or 0, 0, -1):
        path = f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/start.json"
        if mailbox.read(path, AttemptStart) is not None:
            return attempt
    return None
