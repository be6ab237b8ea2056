"""Lists of initial conditions: reset options, one episode each, from JSON, CSV or YAML."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from drillyard.documents.files import read_document, read_text
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, nearest

Condition = JsonObject
MOST = 100_000
_ALLOWED = "a list of mappings, such as [{level: 0.2}, {level: 0.4}]; or a CSV with a header"


def read_conditions(file: Path) -> list[Condition]:
    """Reads a list of initial conditions.

    Args:
        file: ``.csv`` (the header names the keys, an empty cell leaves one out), ``.json``,
            ``.yaml``. A column or key may be called ``config_level`` for ``level``, as an earlier
            assessment has it.

    Raises:
        ConfigError: It cannot be read, or a line of it is not a condition.
    """
    if file.suffix.lower() == ".csv":
        conditions: Json = [*_rows(file)]
    else:
        conditions = read_document(file, file.name).value
    return checked(conditions, file.name)


def checked(conditions: Any, shown: str) -> list[Condition]:
    """Checks a list of conditions.

    Args:
        conditions: The content of the file.
        shown: Name of the file for messages.

    Raises:
        ConfigError: It is not a list of conditions; names the item.
    """
    hint = "each condition has values for `reset`: {level: 0.2}"
    if not isinstance(conditions, list) or not conditions or len(conditions) > MOST:
        size = (
            f"a list of {len(conditions)}"
            if isinstance(conditions, list)
            else f"a {type(conditions).__name__}"
        )
        raise ConfigError(
            f"is {size}, not a list of conditions", file=shown, allowed=_ALLOWED, hint=hint
        )
    for number, condition in enumerate(conditions, 1):
        if not isinstance(condition, Mapping):
            raise ConfigError(
                f"condition {number} is not a mapping",
                file=shown,
                value=condition,
                allowed=_ALLOWED,
                hint=hint,
            )
    return [
        {str(k).removeprefix("config_"): v for k, v in condition.items()}
        for condition in conditions
    ]


def take_conditions(tree: Any, folder: Path) -> None:
    """Replaces the file name in ``evaluate.conditions`` with the content of the file.

    So a worker and a later reader of the record do not need the file.

    Args:
        tree: The experiment as it is written.
        folder: Where it lies.

    Raises:
        ConfigError: The file is none.
    """
    part = tree.get("evaluate") if isinstance(tree, dict) else None
    if isinstance(part, dict) and isinstance(part.get("conditions"), str):
        part["conditions"] = read_conditions(folder / part["conditions"])


def known_keys(conditions: list[Condition], known: Collection[str] | None, shown: str) -> None:
    """Compares the keys with those that the simulator declares.

    Raises:
        ConfigError: A key is unknown; names the condition.
    """
    for number, condition in enumerate(conditions, 1):
        for key in condition:
            if known is not None and key not in known:
                raise ConfigError(
                    f"condition {number}: the simulator has no reset key {key!r}",
                    file=shown,
                    value=condition,
                    allowed=", ".join(sorted(known)) or "none",
                    hint=nearest(key, sorted(known)),
                )


def _rows(file: Path) -> list[Condition]:
    reader = csv.reader(io.StringIO(read_text(file, file.name)))
    header = next(reader, [])
    if not header or len({name.strip() for name in header}) != len(header) or "" in header:
        raise ConfigError(
            "has no header of distinct names",
            file=file.name,
            line=1,
            value=",".join(header),
            allowed=_ALLOWED,
            hint="the first line names the keys: level,wanted",
        )
    rows = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise ConfigError(
                f"has {len(row)} cells, the header {len(header)}",
                file=file.name,
                line=reader.line_num,
                value=",".join(row),
                allowed=_ALLOWED,
                hint="an empty cell leaves a key out: 0.2,,1",
            )
        cells = zip(header, row, strict=True)
        rows.append({name.strip(): _value(cell.strip()) for name, cell in cells if cell.strip()})
    return rows


def _value(cell: str) -> Json:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(cell.lower(), cell)
