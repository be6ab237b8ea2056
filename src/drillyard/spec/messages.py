"""Turns pydantic's errors into messages: file, line, field, value, allowed values, a fix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json
from drillyard.documents.scalars import dotted
from drillyard.errors import BadValue, ConfigError, nearest
from drillyard.spec.aliases import ours
from drillyard.spec.experiment import NAME_RULE, ExperimentSpec
from drillyard.spec.precedence import Merged, Place, item_at

Schema: TypeAlias = dict[str, Any]
"""The JSON Schema of a field, as pydantic writes it."""


def translate(error: ValidationError, merged: Merged, file: str) -> list[ConfigError]:
    """Returns one error for each refused field.

    Args:
        error: The error of pydantic.
        merged: The refused values, with their places.
        file: The experiment file, used if the place is not known.
    """
    by_field: dict[str, ConfigError] = {}
    for item in error.errors(include_url=False, include_context=True):
        path = _real_path(item["loc"], merged.tree)
        for refusal in _each(item, path, merged, file):
            by_field.setdefault(str(refusal.field), refusal)
    return list(by_field.values())


def _each(item: ErrorDetails, path: KeyPath, merged: Merged, file: str) -> Iterator[ConfigError]:
    yield _one(item, path, merged, file)
    cause = item.get("ctx", {}).get("error")
    for other in cause.others if isinstance(cause, BadValue) else ():
        yield _one({**item, "ctx": {"error": other}}, path, merged, file)


def _real_path(loc: tuple[int | str, ...], tree: Json) -> KeyPath:
    """Returns ``loc`` without the names of union members that pydantic adds."""
    path: list[int | str] = []
    for number, part in enumerate(loc):
        if isinstance(tree, dict) and (part in tree or (number == len(loc) - 1 and _is_key(part))):
            path.append(part)
            tree = tree.get(part) if isinstance(part, str) else None
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            path.append(part)
            tree = tree[part]
    return tuple(path)


def _is_key(part: int | str) -> bool:
    return isinstance(part, str) and part.replace("_", "a").isalnum()


def _one(item: ErrorDetails, path: KeyPath, merged: Merged, file: str) -> ConfigError:
    kind, value = item["type"], item["input"]
    if kind == "missing" and isinstance(item["loc"][-1], int):
        kind = "too_short"
    place = merged.place(path) or Place(file)
    if not place.file:
        place = replace(place, file=file)
    refused = partial(ConfigError, at=place, field=dotted(path) or None)
    allowed = describe(path)
    if kind == "extra_forbidden":
        return _unknown(path, place)
    if kind == "missing":
        return refused("is missing", allowed=allowed, hint=_how_to_add(path))
    if kind == "value_error":
        return _of_our_own(item["ctx"]["error"], path, value, merged, place)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        hint = _mapping_hint(path, value)
        return refused(
            "expected a mapping of keys", value=_short(value), allowed=allowed, hint=hint
        )
    text = place.raw if place.raw is not None and isinstance(value, float) else _short(value)
    return refused(
        _MESSAGES.get(kind, item["msg"][0].lower() + item["msg"][1:]),
        value="null" if value is None else text,
        allowed=allowed,
        hint=_hint(path, value, place.raw),
    )


def _of_our_own(
    error: ValueError, path: KeyPath, value: Any, merged: Merged, place: Place
) -> ConfigError:
    ours = error if isinstance(error, BadValue) else BadValue(str(error))
    visible, raw = (None if isinstance(value, dict | list) else value), place.raw
    if ours.key is not None and isinstance(value, dict):
        keys = (ours.key,) if isinstance(ours.key, str) else ours.key
        path, value = (*path, *keys), item_at(value, keys)
        place = merged.place(path) or replace(place, line=None)
        visible = _short(value)
    return ConfigError(
        str(error),
        at=place,
        field=dotted(path) or None,
        value=visible if ours.value is None else ours.value,
        allowed=ours.allowed or describe(path),
        hint=ours.hint or _hint(path, value, raw),
    )


_MESSAGES = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "out of range",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "not a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "list_type": "expected a list",
    "literal_error": "not one of the allowed values",
    "greater_than": "out of range",
    "greater_than_equal": "out of range",
    "less_than": "out of range",
    "less_than_equal": "out of range",
    "tuple_type": "expected a list",
    "too_short": "too few items",
    "too_long": "too many items",
    "string_too_long": "too long",
    "string_too_short": "too short",
}


def _unknown(path: KeyPath, place: Place) -> ConfigError:
    name = str(path[-1])
    siblings = _keys(path[:-1])
    theirs = ours(dotted(path[-2:])) or ours(name)
    known = theirs is not None and theirs != dotted(path)
    hint = f"did you mean {theirs!r}?" if known else nearest(name, siblings)
    return ConfigError(
        f"unknown key {name!r}",
        at=place,
        field=dotted(path) or None,
        value=name,
        allowed=", ".join(siblings),
        hint=hint,
    )


def _how_to_add(path: KeyPath) -> str:
    examples = {
        "name": "add `name: my-experiment`",
        "simulator.id": "add `id: cstr`, a Gymnasium id, or `module:Class`",
        "learner.algorithm": "add `algorithm: ppo`",
    }
    return examples.get(dotted(path), f"add `{path[-1]}: …`" if path else "add it")


def _mapping_hint(path: KeyPath, value: Json) -> str:
    short = {"simulator": "id", "learner": "algorithm", "train": "steps", "evaluate": "episodes"}
    key = short.get(dotted(path))
    if key and not isinstance(value, dict | list) and value is not None:
        return f"write `{path[-1]}: {{{key}: {value}}}`"
    return "write keys below it, indented, or `{key: value}`"


def _number(schema: Schema, kinds: set[str]) -> str:
    """Returns a number that a field allows, unless its lowest one is above 1000."""
    if "number" in kinds:
        return "1.0e-3"
    highest = _limit(schema, "maximum")
    return str(1000 if highest is None else min(1000, int(highest)))


def _hint(path: KeyPath, value: Json, raw: str | None) -> str | None:
    """Returns what to do about a refused value; the first kind of mistake that fits decides."""
    schema = _schema(path)
    return (
        _unquoted(schema, value, raw)
        or _of_field(path, value)
        or _of_shape(schema, value)
        or _of_options(schema, value)
        or instead(path, value)
    )


def _unquoted(schema: Schema, value: Json, raw: str | None) -> str | None:
    """A hint for a text that YAML reads as a number or a boolean."""
    kinds = _kinds(schema)
    if "string" not in kinds or "number" in kinds or not isinstance(value, bool | int | float):
        return None
    word = raw if raw is not None else str(value).lower()
    kind = "a boolean" if isinstance(value, bool) else f"the number {value:g}"
    return f"quote it: '{word}' is read as {kind} without quotes"


def _of_field(path: KeyPath, value: Json) -> str | None:
    """A hint of one field."""
    large = isinstance(value, int) and not isinstance(value, bool) and value > 1
    if "seeds" in path:
        option = f"; `drillyard run FILE --seeds {value}` means 1 to {value}" if large else ""
        return f"for example `seeds: [1, 2, 3]`{option}"
    match dotted(path), value:
        case "train.steps", int(steps) if large:
            years = steps / 2000 / 3600 / 24 / 365
            return f"at 2,000 steps/s that takes {years:,.0f} years; give fewer steps"
        case "train.n_envs", int() if large:
            return f"this machine has {os.cpu_count()} cores; a few copies per core are useful"
        case "resources.device", str(word) if word.lower() in ("gpu", "nvidia"):
            return "write cuda"
        case "name", _ if not (isinstance(value, list) and len(value) == 1):
            return "for example `name: cstr-ppo`"
        case _, str() if path and path[-1] == "steps":
            return "write 50_000 or 50k"
    return None


def _of_shape(schema: Schema, value: Json) -> str | None:
    """A hint for quotes or brackets that are missing, or too many."""
    kinds = _kinds(schema)
    if kinds & {"integer", "number"} and isinstance(value, str):
        return f"write a number without quotes, for example {_number(schema, kinds)}"
    if kinds == {"string"} and isinstance(value, list) and len(value) == 1:
        return f"write it without brackets: {value[0]}"
    if kinds == {"string"} and isinstance(value, dict) and isinstance(value.get("id"), str):
        return f"write its name alone: {value['id']}"
    if "array" in kinds and not isinstance(value, list):
        return _as_list(schema, value)
    return None


def _of_options(schema: Schema, value: Json) -> str | None:
    """A hint for one of a few words."""
    options = [
        str(option)
        for form in _forms(schema)
        for option in form.get("enum", [form.get("const")])
        if option is not None
    ]
    return nearest(value, options) if options and isinstance(value, str) else None


def _as_list(schema: Schema, value: Json) -> str:
    """Returns a list to write for a refused value that is not one."""
    form = next(form for form in _forms(schema) if form.get("type") == "array")
    keys = value if isinstance(value, dict) else {}
    if "prefixItems" in form:
        numbers = sorted(n for n in keys.values() if isinstance(n, int | float))
        if len(numbers) == len(keys) == len(form["prefixItems"]):
            return f"write a list: {numbers}"  # {min: 1, max: 5}
        return f"write a list, such as {list(range(len(form['prefixItems'])))}"
    texts = keys and _kinds(_resolved(form.get("items", {}))) == {"string"}
    return f"write a list: [{', '.join(keys) if texts else value}]"


def instead(path: KeyPath, value: object = None) -> str:
    """Returns what to write for a refused value: the nearest end of the range, or the default.

    Args:
        path: Path of the field.
        value: The refused value.
    """
    schema = _schema(path)
    default = schema.get("default")
    text = str(default).lower() if isinstance(default, bool) else default
    without = "" if default is None or default in ({}, []) else f"remove it to use {text}"
    end = _nearest_end(schema, value)
    if end is not None:
        return f"{end}; {without}" if without else end
    optional = path and path[-1] not in ("name", "id", "algorithm")
    return without or ("change or remove it" if optional else "change it")


def _nearest_end(schema: Schema, value: object) -> str | None:
    """Returns the end of the range that a number misses; None if it is inside, or not a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    low, high = _limit(schema, "minimum"), _limit(schema, "maximum")
    above = _limit(schema, "exclusiveMinimum")
    if low is not None and value < low:
        return f"write {low} or more"
    if above is not None and value <= above:
        return f"write more than {above:g}"
    if high is not None and value > high:
        return f"write {high:g} or less"
    return None


def _short(value: Json) -> Json:
    text = repr(value)
    return value if len(text) <= 120 else text[:117] + "…"


# -- what is allowed, from the schema that `drillyard schema` prints -----------------------------


@cache
def _root() -> Schema:
    return ExperimentSpec.model_json_schema(by_alias=True)


def _schema(path: KeyPath) -> Schema:
    node = _root()
    for part in path:
        node = _inner(node, part)
        if not node:
            return {}
    return _resolved(node)


def _resolved(node: Schema) -> Schema:
    while "$ref" in node:
        node = _root()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _forms(node: Schema) -> list[Schema]:
    """Returns a schema and the members of its union."""
    node = _resolved(node)
    return [node, *(_resolved(option) for option in node.get("anyOf", []))]


def _limit(
    schema: Schema, keyword: Literal["minimum", "maximum", "exclusiveMinimum"]
) -> float | None:
    """Returns the first limit of this kind that a form of a field has."""
    return next((form[keyword] for form in _forms(schema) if keyword in form), None)


def _inner(node: Schema, part: str | int) -> Schema:
    inner: Schema = {}
    for option in _forms(node):
        if isinstance(part, int):
            items = [*option.get("prefixItems", ()), option.get("items") or {}]
            inner = items[min(part, len(items) - 1)] or items[0]
        elif part in option.get("properties", {}):
            inner = option["properties"][part]
        elif isinstance(option.get("additionalProperties"), dict):
            inner = option["additionalProperties"]
        if inner:
            break
    return inner


def _keys(path: KeyPath) -> list[str]:
    for option in _forms(_schema(path)):
        if "properties" in option:
            return [key for key in option["properties"] if key != "stage_of"]  # written by us
    return []


def _kinds(schema: Schema) -> set[str]:
    return {form["type"] for form in _forms(schema) if form.get("type", "null") != "null"}


def describe(path: KeyPath) -> str | None:
    """Describes the allowed values of a field: ``a whole number from 1 to 4096``."""
    return NAME_RULE if path == ("name",) else _words(_schema(path)) or None


def _words(schema: Schema) -> str:
    schema = _resolved(schema)
    if "anyOf" in schema:
        return " or ".join(w for w in (_words(o) for o in schema["anyOf"]) if w)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(o) for o in schema["enum"])
    kind = schema.get("type")
    if kind in _NUMBERS:
        return _NUMBERS[kind] + _range(schema)
    if kind == "array":
        each = schema.get("prefixItems", [])
        inner = _words(schema.get("items") or (each[0] if each else {}))
        number = f"{len(each)} " if each else ""
        return f"a list of {number}{_plural(inner)}" if inner else "a list"
    if kind == "object":
        keys = list(schema.get("properties", {}))
        return f"a mapping with {', '.join(keys)}" if keys else "a mapping"
    return {"string": "text", "boolean": "true or false", "null": "null"}.get(str(kind), "")


_NUMBERS = {"integer": "a whole number", "number": "a number"}


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    over = schema.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if over is not None:
        return f" greater than {over:g}" + (f" and at most {high:g}" if high is not None else "")
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _plural(words: str) -> str:
    for single, many in (
        ("a whole number", "whole numbers"),
        ("a number", "numbers"),
        ("a mapping", "mappings"),
    ):
        if words.startswith(single):
            return many + words[len(single) :]
    return "texts" if words == "text" else words
