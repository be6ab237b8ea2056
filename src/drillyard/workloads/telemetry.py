"""Telemetry of a script: a CSV file ``timestamp,metric,value`` followed while it grows."""

from __future__ import annotations

import csv
import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from drillyard.errors import RunFailed
from drillyard.metrics.streams import StreamWriter

STREAM = "telemetry"
HEADER = ("timestamp", "metric", "value")


class Telemetry:
    """Follows one file and appends each of its lines to the stream ``telemetry``.

    The x-axis (``step``) counts the values of each metric, so that it does not depend on when the
    file was looked at; the time is the file's own.

    Args:
        path: The file; it need not be there.
        writer: Where the lines go.
        prefix: Put before the names of metrics.
    """

    def __init__(self, path: Path, writer: StreamWriter, prefix: str = "") -> None:
        self._path = path
        self._writer = writer
        self._prefix = prefix
        self._read = 0
        self._line = 0
        self._counts: Counter[str] = Counter()

    def follow(self, whole: bool = False) -> int:
        """Take what was added.

        Args:
            whole: The file is finished: its last line counts even without an end.

        Returns:
            How many values were taken.

        Raises:
            RunFailed: A line is not ``timestamp,metric,value``; names the line.
        """
        try:
            with open(self._path, "rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return 0
        if not whole:
            data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        taken = 0
        for text in data.decode("utf-8", errors="replace").splitlines():
            self._line += 1
            taken += self._take(text.removeprefix("\ufeff"))
        return taken

    def _take(self, text: str) -> int:
        cells = [cell.strip() for cell in next(csv.reader([text]), [])]
        if not any(cells) or (self._line == 1 and tuple(c.lower() for c in cells) == HEADER):
            return 0
        if len(cells) != 3 or not cells[1]:
            raise self._wrong(text, "three values are needed: timestamp, metric, value")
        time = _seconds(cells[0])
        if time is None:
            raise self._wrong(text, "the timestamp is neither seconds since 1970 nor ISO 8601")
        try:
            value = float(cells[2])
        except ValueError:
            raise self._wrong(text, "the value is not a number") from None
        name = f"{self._prefix}{cells[1]}"
        step = self._counts[name]
        self._counts[name] += 1
        self._writer.append(STREAM, step, {name: value}, time=time)
        return 1

    def _wrong(self, text: str, why: str) -> RunFailed:
        return RunFailed(
            f"line {self._line} of the telemetry {self._path.name} is not valid: {text!r}: {why}",
            hint="write lines such as 2026-03-01T14:05:00Z,cpu,0.42",
        )


def _seconds(text: str) -> float | None:
    """Seconds since 1970 UTC; a time without a zone is UTC."""
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return value if math.isfinite(value) else None
