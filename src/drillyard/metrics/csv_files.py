"""Metric streams as the CSV files that people and spreadsheets read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from drillyard.documents.json_types import Json
from drillyard.metrics.streams import Line
from drillyard.system.tables import write_csv


def write_wide(lines: Sequence[Line], path: Path) -> None:
    """One row for each line of the stream, one column for each metric in it.

    Args:
        lines: A merged stream.
        path: The file: ``step``, ``time`` (epoch seconds), then the metrics by name.
    """
    names = _names(lines)
    rows = (
        [line["step"], line.get("time"), *(line["metrics"].get(n) for n in names)]
        for line in lines
    )
    _write(path, ["step", "time", *names], rows)


def write_long(lines: Sequence[Line], path: Path) -> None:
    """One row for each value: ``timestamp`` (epoch seconds), ``metric``, ``value``.

    Args:
        lines: The ``telemetry`` stream.
        path: The file.
    """
    rows = (
        [line.get("time"), name, value]
        for line in lines
        for name, value in line["metrics"].items()
    )
    _write(path, ["timestamp", "metric", "value"], rows)


def write_episodes(lines: Sequence[Line], path: Path, started_at: float) -> None:
    """One row for each episode: number, last step, seconds since the start, measures, draws.

    Args:
        lines: The ``episodes`` stream.
        path: The file.
        started_at: Epoch seconds at which training began.
    """
    names, keys = _names(lines), _lesson_keys(lines)
    rows = (
        [
            number,
            line["step"],
            _seconds(line, started_at),
            *(line["metrics"].get(n) for n in names),
            *_drawn(line, keys),
        ]
        for number, line in enumerate(lines, 1)
    )
    _write(path, ["episode", "step", "time_s", *names, *(f"lesson_{k}" for k in keys)], rows)


def write_monitor(lines: Sequence[Line], path: Path, started_at: float, world: str) -> None:
    """The episodes as Stable-Baselines3's ``Monitor`` writes them, for tools that read those.

    The values that a lesson drew are in the columns of ``Monitor``'s ``reset_keywords``.

    Args:
        lines: The ``episodes`` stream.
        path: The file; ``stable_baselines3.common.monitor.load_results`` wants it to end in
            ``monitor.csv``.
        started_at: Epoch seconds at which training began.
        world: The simulator's id.
    """
    keys = _lesson_keys(lines)
    rows = (
        [
            line["metrics"].get("return"),
            line["metrics"].get("length"),
            _seconds(line, started_at),
            *_drawn(line, keys),
        ]
        for line in lines
    )
    head = json.dumps({"t_start": started_at, "env_id": world})
    _write(path, ["r", "l", "t", *keys], rows, first=f"#{head}\n")


def _lesson_keys(lines: Iterable[Line]) -> list[str]:
    return sorted({key for line in lines for key in line.get("lesson") or ()})


def _drawn(line: Line, keys: Sequence[str]) -> list[Json]:
    lesson = line.get("lesson") or {}
    return [lesson.get(key) for key in keys]


def _seconds(line: Line, started_at: float) -> float:
    return round(float(line.get("time") or started_at) - started_at, 6)


def _names(lines: Iterable[Line]) -> list[str]:
    names: dict[str, None] = {}
    for line in lines:
        names.update(dict.fromkeys(line["metrics"]))
    return sorted(names)


def _write(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Json]], first: str = ""
) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(first)
        write_csv(file, header, rows)
