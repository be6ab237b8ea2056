"""Metrics of a script: from its output by a regular expression, from CSV and from JSON."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import NoReturn

from drillyard.documents.json_types import JsonObject
from drillyard.errors import RunFailed

Values = dict[str, float | str]
"""Name -> number, or a text that is not a metric, but is kept."""
MAX_BYTES = 64 << 20
LONG_HEADER = ("metric", "value")


def from_output(path: Path, pattern: str) -> Values:
    """Every match of a pattern with two groups; the last one of a name counts.

    Args:
        path: A file with the standard output of ``run``, of any length.
        pattern: Its two groups are name and value. Each line is searched by itself.

    Raises:
        RunFailed: A line is too long.
    """
    search = re.compile(pattern, re.MULTILINE)
    values: Values = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for count, line in enumerate(iter(lambda: file.readline(MAX_BYTES), ""), 1):
            if len(line) == MAX_BYTES and not line.endswith("\n"):
                raise RunFailed(
                    f"line {count} of the output is longer than {MAX_BYTES >> 20} Mi characters",
                    hint="print data into a file, and end the lines of the output",
                )
            for match in search.finditer(line):
                name, value = match.groups()
                if name and name.strip():
                    values[name.strip()] = number(value or "")
    return values


def from_file(path: Path) -> Values:
    """The metrics of a ``.csv`` or ``.json`` file.

    Raises:
        RunFailed: Missing, empty, too large, or of another form; says which.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            _fail(path, f"is larger than {MAX_BYTES >> 20} MiB", "write metrics alone into it")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        _fail(path, "was not written", "does the script write it into its working folder?")
    except (OSError, UnicodeDecodeError) as error:
        _fail(path, f"cannot be read: {error}", "write UTF-8 text")
    if not text.strip():
        _fail(path, "is empty", "write `metric,value` lines, or a JSON object")
    return _json(path, text) if path.suffix.lower() == ".json" else _csv(path, text)


def number(text: str) -> float | str:
    """The number that a text reads, else the text."""
    plain = text.strip()
    try:
        return float(plain)
    except ValueError:
        return plain


def split(values: Values) -> tuple[dict[str, float], dict[str, str]]:
    """(metrics, texts).

    Raises:
        RunFailed: A metric is not finite.
    """
    metrics = {k: v for k, v in values.items() if isinstance(v, float)}
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RunFailed(
                f"the metric {name!r} is {value}", hint="results must be finite numbers"
            )
    return metrics, {k: v for k, v in values.items() if isinstance(v, str)}


def _csv(path: Path, text: str) -> Values:
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(text.splitlines())
        if any(cell.strip() for cell in row)
    ]
    first = rows[0]
    if tuple(c.lower() for c in first) == LONG_HEADER:
        return _long(path, rows[1:])
    if len(first) == 2 and isinstance(number(first[1]), float):
        return _long(path, rows)
    if len(rows) != 2:
        _fail(
            path,
            f"has {len(rows)} lines and no header `metric,value`",
            "write lines `metric,value`, or names above exactly one row of values",
        )
    if len(rows[1]) != len(first) or len(set(first)) != len(first) or not all(first):
        _fail(path, "has names and values that do not match", "write one value under each name")
    return {name: number(value) for name, value in zip(first, rows[1], strict=True)}


def _long(path: Path, rows: list[list[str]]) -> Values:
    values: Values = {}
    for row in rows:
        if len(row) != 2 or not row[0]:
            _fail(
                path,
                f"has a line that is not `metric,value`: {','.join(row)!r}",
                "write a name and a value on each line",
            )
        if row[0] in values:
            _fail(path, f"has {row[0]!r} twice", "write each metric once")
        values[row[0]] = number(row[1])
    if not values:
        _fail(path, "has a header and no values", "write a line for each metric")
    return values


def _json(path: Path, text: str) -> Values:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail(path, f"is not JSON: {error}", 'write an object: {"score": 0.5}')
    if isinstance(tree, list) and all(
        isinstance(i, dict) and set(i) == set(LONG_HEADER) for i in tree
    ):
        tree = {str(item["metric"]): item["value"] for item in tree}
    if not isinstance(tree, dict):
        _fail(path, "holds no object", 'write an object: {"score": 0.5}')
    values: Values = {}
    _flatten(tree, "", values)
    if not values:
        _fail(path, "holds no value", 'write an object: {"score": 0.5}')
    return values


def _flatten(tree: JsonObject, above: str, into: Values) -> None:
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{name}/", into)
        elif isinstance(value, bool):
            into[name] = float(value)
        elif isinstance(value, int | float):
            # An integer of a thousand digits does not fit into a float.
            into[name] = float(value) if abs(value) < 1e308 or value != value else math.inf
        elif value is not None:
            into[name] = value if isinstance(value, str) else json.dumps(value)


def _fail(path: Path, what: str, hint: str) -> NoReturn:
    raise RunFailed(f"the results file {path.name} {what}", hint=hint)
