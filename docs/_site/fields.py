"""The fields of an experiment file, as tables made from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from drillyard.spec.schema import document

Schema = dict[str, Any]


def markdown() -> str:
    """Returns one section for each mapping of the file, the whole file first."""
    schema = document()
    models = schema["$defs"]
    parts = [_table("", schema, models)]
    seen: set[str] = set()
    todo = list(_models("", schema))
    while todo:
        path, name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        parts.append(f"## `{path}` {{ #{name.lower()} }}\n\n{_sentence(models[name])}\n")
        parts.append(_table(path, models[name], models))
        todo[:0] = _models(path, models[name])
    return "\n".join(parts)


def _models(path: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """(path in the file, model) of each mapping that the fields of a mapping take."""
    for field, one in schema.get("properties", {}).items():
        for suffix, name in _refs(one):
            yield f"{path}.{field}".lstrip(".") + suffix, name


def _refs(one: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """(what follows the field's name, model) for each model that a field takes."""
    if not isinstance(one, dict):
        return
    if "$ref" in one:
        yield suffix, one["$ref"].rpartition("/")[2]
    for kind in ("anyOf", "oneOf"):
        for each in one.get(kind, []):
            yield from _refs(each, suffix)
    yield from _refs(one.get("items"), f"{suffix}[]")
    yield from _refs(one.get("additionalProperties"), f"{suffix}.NAME")


def _table(path: str, schema: Schema, models: Schema) -> str:
    required = schema.get("required", [])
    rows = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for field, one in schema.get("properties", {}).items():
        default = "required" if field in required else _default(one)
        cells = (f"`{field}`", _type(one, models), default, _text(one.get("description", "")))
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _default(one: Schema) -> str:
    if "default" not in one:
        return ""
    text = json.dumps(one["default"], ensure_ascii=False)
    return "" if text in ("null", "{}", "[]") else f"`{text}`"


def _type(one: Schema, models: Schema) -> str:
    """A field's type in words, with its bounds; a mapping of ours is a link to its section."""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[mapping](#{name.lower()})" if "properties" in models[name] else "mapping"
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    choices = one.get("anyOf") or one.get("oneOf")
    if choices:
        words = dict.fromkeys(_type(c, models) for c in choices if c.get("type") != "null")
        return " or ".join(words)
    kind = one.get("type")
    if kind == "array":
        return f"list of {_type(one['items'], models)}" if one.get("items") else "list"
    if kind == "object":
        inner = one.get("additionalProperties")
        whole = isinstance(inner, dict) and inner
        return f"mapping of names to {_type(inner, models)}" if whole else "mapping"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "boolean"}
    word = names.get(str(kind), "any value")
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    limits = [f"{said} {one[key]:g}" for key, said in bounds if key in one]
    return ", ".join([word, *limits])


def _sentence(model: Schema) -> str:
    return str(model.get("description", "")).split("\n\n")[0].replace("\n", " ")


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
