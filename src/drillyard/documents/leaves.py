"""The values of a tree of settings, each with its path."""

from __future__ import annotations

import json

from drillyard.documents.json_types import JsonView


def flatten(value: JsonView, path: str = "") -> list[tuple[str, JsonView]]:
    """(dotted path, value) of every leaf; lists of plain values are leaves."""
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, inner in value.items()
            for leaf in flatten(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return [leaf for i, inner in enumerate(value) for leaf in flatten(inner, f"{path}[{i}]")]
    return [(path, value)]


def value_text(value: JsonView) -> str:
    """A value of a configuration as the page shows it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False)
