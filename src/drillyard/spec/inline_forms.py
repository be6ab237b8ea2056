"""The forms of an inline search space, and the tunable that each one means.

``{tune: [low, high]}``, ``{tune: {choices: [a, b]}}`` and ``{tune: default}``; beside ``tune``,
every key of a declared tunable but ``range`` and ``values``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pydantic import ValidationError

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject, as_list
from drillyard.errors import BadValue, ConfigError
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE
from drillyard.spec.precedence import argument_at
from drillyard.spec.tunables import Tunable

TUNE = "tune"
CHOICES = "choices"
DEFAULT = "default"
EXAMPLE = "{tune: [1.0e-4, 1.0e-2], log: true}"
ALLOWED = f"[low, high], {{{CHOICES}: [a, b]}}, or {DEFAULT}"
KEYS = (TUNE, *(key for key in Tunable.model_fields if key not in ("range", "values")))


def read_form(
    node: JsonObject, algorithm: Json, path: KeyPath
) -> tuple[list[ConfigError], JsonObject | None]:
    """Reads an inline search space.

    Args:
        node: The mapping with ``tune``; a ready-made range is filled in already.
        algorithm: Name of the learner.
        path: Path of the field.

    Returns:
        What is wrong, each with its key below the field as ``field``; and the tunable, if nothing
        is. It has no ``default`` where the file gives none.
    """
    problems = list(_keys(node)) + list(_shape(node[TUNE]))
    if problems:
        return problems, None
    argument = argument_at(path)
    table = ARGUMENTS.get(str(algorithm).lower(), {})
    body: JsonObject = {k: v for k, v in node.items() if k != TUNE}
    space = node[TUNE]
    if isinstance(space, dict):
        body = {"type": "categorical", **body, "values": space[CHOICES]}
        values = as_list(space[CHOICES])
    else:
        values = as_list(space)
        # Whole numbers: what counts, and what is written so elsewhere.
        whole = (
            TABLE[argument].rule.whole
            if argument is not None and argument in table
            else all(isinstance(v, int) for v in values)
        )
        body = {"type": "int" if whole else "float", **body, "range": values}
    problems = list(_of_tunable(body))
    if not problems and argument is not None and argument in table:
        part = TUNE if body["type"] != "categorical" else f"{TUNE}.{CHOICES}"
        for value in values:
            problems += [
                e.but(hint=e.hint or f"narrow the space to values that {argument} takes")
                for e in TABLE[argument].rule.check(part, value)
            ]
    return problems, None if problems else body


def _keys(node: JsonObject) -> Iterator[ConfigError]:
    for key in node:
        if key not in KEYS:
            yield ConfigError(f"unknown key {key!r}", field=str(key), value=key, known=KEYS)


def _shape(space: Json) -> Iterator[ConfigError]:
    if isinstance(space, dict):
        yield from _choices(space)
        return
    wrong = partial(ConfigError, field=TUNE, value=space, allowed=ALLOWED)
    if not isinstance(space, list):
        hint = f"write `{EXAMPLE}` or `{{tune: {{choices: [64, 128, 256]}}}}`"
        yield wrong("is not a search space", hint=hint)
        return
    numbers = [v for v in space if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(space) != 2 or len(numbers) != len(space):
        listed = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in space)
        yield wrong(
            "a range has two numbers, its lowest and its highest value",
            hint=f"for single values write `{{tune: {{choices: [{listed or 'a, b'}]}}}}`",
        )


def _choices(space: JsonObject) -> Iterator[ConfigError]:
    other = [key for key in space if key != CHOICES]
    if other or CHOICES not in space:
        yield ConfigError(
            "is not a search space",
            field=f"{TUNE}.{other[0]}" if other else TUNE,
            value=space,
            allowed=ALLOWED,
            hint="write `{tune: {choices: [64, 128, 256]}}`; other keys belong beside `tune`",
        )
        return
    given = space[CHOICES]
    scalars = isinstance(given, list) and all(
        isinstance(v, str | bool | int | float) for v in given
    )
    if not scalars or not given:
        yield ConfigError(
            "has no choices" if given == [] else "is not a list of single values",
            field=f"{TUNE}.{CHOICES}",
            value=given,
            allowed="a list of numbers, texts, true and false",
            hint="write all values that trials may have: `{choices: [64, 128, 256]}`",
        )


def _of_tunable(body: JsonObject) -> Iterator[ConfigError]:
    """What a declared tunable refuses, under the keys of the inline form."""
    default = (as_list(body.get("range")) or as_list(body["values"]))[0]
    try:
        Tunable.model_validate({"default": default, **body})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            cause = item.get("ctx", {}).get("error")
            message = item["msg"][0].lower() + item["msg"][1:]
            wrong = cause if isinstance(cause, BadValue) else BadValue(message)
            key = str(item["loc"][0]) if item["loc"] else ""
            key = wrong.key if isinstance(wrong.key, str) else key
            key = {"range": TUNE, "values": f"{TUNE}.{CHOICES}", "": TUNE}.get(key, key)
            value = body.get("range") if key == TUNE else body.get(key, body.get("values"))
            yield ConfigError(
                str(wrong),
                field=key,
                value=value,
                allowed=wrong.allowed or ALLOWED,
                hint=wrong.hint or f"for example `{EXAMPLE}`",
            )


def with_default(body: JsonObject, usual: Json) -> JsonObject:
    """Returns a tunable with a default.

    Args:
        body: From ``read_form``.
        usual: The value that the field would have if it were not tuned. If it is not in the space,
            the nearest value is the default; without one, the middle.
    """
    if "default" in body:
        return body
    number = usual if isinstance(usual, int | float) and not isinstance(usual, bool) else None
    if choices := as_list(body.get("values")):
        same = [c for c in choices if type(c) is type(usual) and c == usual]
        close = [c for c in choices if isinstance(c, int | float) and not isinstance(c, bool)]
        if same or number is None or len(close) < len(choices):
            return {**body, "default": (same or choices)[0]}
        return {**body, "default": min(close, key=lambda c: abs(c - number))}
    tunable = Tunable.model_validate({**body, "default": as_list(body["range"])[0]})
    assert tunable.range is not None
    if number is None:
        return {**body, "default": tunable.inside(0.5)}
    close_by = min(max(number, tunable.range[0]), tunable.range[1])
    default = close_by if tunable.type == "float" else round(close_by)
    return {**body, "default": tunable.take("default", default)}
