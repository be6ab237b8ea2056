"""The metric streams of a run: the truth about its curves.

A stream is a sequence of JSON lines, numbered from 0. While a run trains they are written to the
store, every few seconds and at each checkpoint, as immutable segments
``runs/<run>/attempts/train-<n>/streams/<name>/<first_seq>.jsonl``. A checkpoint names, for each
stream, how many lines belong to it. A resume continues from there, so the merged stream of a
resumed run has the same lines as that of an uninterrupted one (except for wall-clock fields).

Streams that exist:
    ``train``       a point of the training curve: ``{"step", "metrics": {"rollout/…", …}}``
    ``episodes``    one finished episode: ``{"step", "metrics": {"return", "length", "env", …}}``,
                    and ``"lesson"``: what the episode began with, where one was drawn
    ``evaluation``  one evaluation while training: ``{"step", "metrics": {"eval/mean_reward", …}}``
    ``telemetry``   metrics of a running script: ``{"step", "metrics": {"cpu": …}}``, with
                    the script's own time; ``step`` counts the values of a metric
    ``steps``       every step of a finished episode, with the wrapper ``csv_logger``: ``{"step",
                    "metrics": {"env"}, "log": …}``; not hashed: it repeats what led to the others
    ``timing``      wall clock: ``{"step", "metrics": {"time/steps_per_s", …}}``, and ``"usage"``:
                    samples of the machine's use since the line before; not hashed
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict, runtime_checkable

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import AttemptStart, Phase
from drillyard.mailbox.store import folders
from drillyard.simulators.step_logs import Log
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.utilisation import UsageSample

WALL_CLOCK_STREAMS = frozenset({"timing"})
WALL_CLOCK_FIELDS = frozenset({"time"})


class Line(TypedDict):
    """A line of a stream.

    Attributes:
        step: Environment steps so far.
        time: When it was written, in seconds since the epoch.
        seq: Its number in the stream, from 0.
        metrics: Name -> number or text.
        lesson: What an episode began with, in ``episodes``.
        log: The steps of an episode, in ``steps``.
        usage: Samples of the machine's use, in ``timing``. They come with the lines that are
            written anyway, so that they cost no request, and the number of lines stays the same.
    """

    step: int
    time: float
    seq: int
    metrics: JsonObject
    lesson: NotRequired[JsonObject]
    log: NotRequired[Log]
    usage: NotRequired[list[UsageSample]]


log = logging.getLogger(__name__)


class StreamWriter:
    """Appends to the streams of one attempt.

    Appending never waits for the store: lines stay in memory until their segment is written. Lines
    that a killed process had not written come after its last checkpoint, and the next attempt
    writes them again.

    Args:
        mailbox: Where segments go.
        run: The run.
        attempt: The attempt, which must own its folder.
        offsets: Number of valid lines of earlier attempts, by stream.
        clock: For the ``time`` field.
        on_flushed: Called with the lines of each stream that are now in the store.
        usage: Returns the samples of the machine's use since the last call.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        run: str,
        attempt: int,
        offsets: dict[str, int] | None = None,
        clock: Clock = SYSTEM,
        on_flushed: Callable[[Mapping[str, Sequence[str]]], None] | None = None,
        usage: Callable[[], list[UsageSample]] = list,
    ) -> None:
        self._mailbox = mailbox
        self._folder = f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/streams"
        self._next: dict[str, int] = dict(offsets or {})
        self._pending: dict[str, list[str]] = {}
        self._clock = clock
        self._on_flushed = on_flushed
        self._usage = usage
        self._lines = threading.Lock()
        self._writing = threading.Lock()

    def append(
        self, stream: str, step: int, metrics: Mapping[str, object], **more: object
    ) -> None:
        """Add a line.

        Args:
            stream: One of the streams above.
            step: Environment steps so far: the x-axis, which never resets.
            metrics: JSON numbers and texts; NaN and infinities are written as null.
            **more: Further fields of the line.
        """
        line: dict[str, object] = {"step": step, "time": self._clock.now(), **more}
        if stream == "timing" and "usage" not in line and (samples := self._usage()):
            line["usage"] = samples
        line["metrics"] = {k: _json_number(v) for k, v in metrics.items()}
        with self._lines:
            number = self._next.get(stream, 0)
            line["seq"] = number
            text = json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False)
            self._next[stream] = number + 1
            self._pending.setdefault(stream, []).append(text)

    def append_usage(self) -> None:
        """Add a line with the samples of the machine's use, if there are any."""
        if samples := self._usage():
            self.append("timing", samples[-1]["step"], {}, usage=samples)

    def offsets(self) -> dict[str, int]:
        """The number of lines of each stream so far, written or not."""
        with self._lines:
            return dict(self._next)

    def flush(self) -> dict[str, int]:
        """Write pending lines as segments; returns the number of lines of each stream so far.

        Raises:
            StoreUnavailable: The lines stay pending and go with the next flush.
        """
        with self._writing:
            with self._lines:
                upto = dict(self._next)
                pending = {stream: list(lines) for stream, lines in self._pending.items() if lines}
            written: dict[str, list[str]] = {}
            try:
                for stream, lines in pending.items():
                    first = upto[stream] - len(lines)
                    key = self._mailbox.key(f"{self._folder}/{stream}/{first:012d}.jsonl")
                    self._mailbox.store.put(key, ("\n".join(lines) + "\n").encode())
                    with self._lines:
                        del self._pending[stream][: len(lines)]
                    written[stream] = lines
            finally:
                # Also if a later stream could not be written: these lines do not come again.
                if self._on_flushed is not None:
                    self._on_flushed(written)
            return upto

    def flush_soon(self) -> None:
        """Write pending lines in another thread, so that a slow or dead store blocks nothing."""
        if not self._writing.locked():
            threading.Thread(target=self._try_flush, name="streams", daemon=True).start()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except StoreUnavailable as error:
            log.warning("metric streams are not in the store yet: %s", error)


def cut(mailbox: Mailbox, run: str, attempt: int, offsets: Mapping[str, int]) -> None:
    """Delete the lines that an attempt wrote after a checkpoint to which it goes back.

    Args:
        mailbox: Where.
        run: The run.
        attempt: The attempt; the caller owns it, and writes nothing meanwhile.
        offsets: Number of lines to keep, by stream.
    """
    prefix = mailbox.key(f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/streams/")
    for info in list(mailbox.store.list(prefix)):
        stream, _, name = info.key.removeprefix(prefix).rpartition("/")
        first, keep = int(name.removesuffix(".jsonl")), offsets.get(stream, 0)
        lines = mailbox.store.get(info.key).splitlines(keepends=True)
        if first >= keep:
            mailbox.store.delete(info.key)
        elif first + len(lines) > keep:
            mailbox.store.put(info.key, b"".join(lines[: keep - first]))


@runtime_checkable
class _Scalar(Protocol):
    """A number of NumPy or torch."""

    ndim: int

    def item(self) -> object:
        """The number as Python has it."""


def _json_number(value: object) -> Json:
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, _Scalar) and value.ndim == 0:
        return _json_number(value.item())
    if isinstance(value, dict):
        return {str(k): _json_number(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json_number(v) for v in value]
    return str(value)


def read_stream(
    mailbox: Mailbox, run: str, stream: str, attempt: int | None = None, upto: int | None = None
) -> list[Line]:
    """The merged lines of a stream over all attempts that count.

    Args:
        mailbox: Where to read.
        run: The run.
        stream: Which stream.
        attempt: The attempt to end with; default the accepted one, else the newest.
        upto: Only lines with a smaller ``seq``.
    """
    if attempt is None:
        attempt = last_attempt(mailbox, run, set())
        if attempt is None:
            return []
    lines: list[Line] = []
    for number, cut in chain(mailbox, run, attempt):
        for info in mailbox.store.list(folder_of(mailbox, run, number, stream)):
            segment = parsed(mailbox.store.get(info.key))
            merge(lines, segment, None if cut is None else cut.get(stream, 0))
    return lines if upto is None else lines[:upto]


def folder_of(mailbox: Mailbox, run: str, attempt: int, stream: str) -> str:
    """The prefix of the keys of an attempt's segments of a stream."""
    return mailbox.key(f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/streams/{stream}/")


def parsed(segment: bytes) -> list[Line]:
    """The lines of a segment."""
    return [json.loads(text) for text in segment.decode().splitlines()]


def merge(lines: list[Line], new: Iterable[Line], cut: int | None) -> None:
    """Append the lines of a segment that count.

    Args:
        lines: The lines so far.
        new: The lines of the segment.
        cut: Number of lines up to the checkpoint that the next attempt resumed from; a segment
            that a slow flush wrote after it does not count. None: the last attempt, all count.
    """
    for line in new:
        if line["seq"] >= len(lines) and (cut is None or line["seq"] < cut):
            lines.append(line)


def last_attempt(mailbox: Mailbox, run: str, begun: set[int]) -> int | None:
    """The training attempt whose streams count: the accepted one, else the newest that began.

    Args:
        mailbox: Where.
        run: The run.
        begun: Attempts that are known to have begun; this call adds to it.
    """
    accepted = mailbox.accepted(run, Phase.TRAIN)
    if accepted is not None:
        return accepted.attempt
    prefix = mailbox.key(f"runs/{run}/attempts/")
    stem = f"{Phase.TRAIN.value}-"
    names = [n for n in folders(mailbox.store, prefix) if n.startswith(stem)]
    for attempt in sorted((int(n.removeprefix(stem)) for n in names), reverse=True):
        if attempt in begun:
            return attempt
        if mailbox.store.stat(f"{prefix}{stem}{attempt}/start.json") is not None:
            begun.add(attempt)
            return attempt
    return None


Chain = list[tuple[int, dict[str, int] | None]]
"""[(attempt, lines that count by stream, None = all)], first attempt first."""


def chain(mailbox: Mailbox, run: str, attempt: int) -> Chain:
    """The attempts that an attempt continues, and itself."""
    attempts: Chain = []
    cut: dict[str, int] | None = None
    current: int | None = attempt
    while current is not None:
        attempts.append((current, cut))
        folder = mailbox.attempt_path(run, Phase.TRAIN, current)
        start = mailbox.read(f"{folder}/start.json", AttemptStart)
        if start is None or start.resumed_attempt is None:
            break
        from drillyard.runs.checkpoints import read_meta  # checkpoints write through streams

        meta = read_meta(mailbox, run, start.resumed_attempt, start.resumed_step or 0)
        here = dict(meta.stream_offsets)
        cut = here if cut is None else {k: min(v, cut.get(k, 0)) for k, v in here.items()}
        current = start.resumed_attempt
    return attempts[::-1]


def with_usage(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines, and before each of them those that its samples of the machine's use make."""
    for line in lines:
        for sample in line.get("usage", ()):
            yield {
                "step": sample["step"],
                "time": sample["time"],
                "seq": line["seq"],
                "metrics": {**sample["metrics"]},
            }
        yield line


def canonical(line: Line) -> bytes:
    """A line without its wall-clock fields, as the fingerprint sees it."""
    kept = {k: v for k, v in line.items() if k not in WALL_CLOCK_FIELDS}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
