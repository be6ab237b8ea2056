"""The forms of an inline search space, and the tunable that each one means.

``{tune: [low, high]}``, ``{tune: {choices: [a, b]}}`` and ``{tune: default}``; beside ``tune``,
every key of a declared tunable but ``range`` and ``values``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject, as_list
from drillyard.errors import BadValue, ConfigError
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE
from drillyard.spec.tunables import Tunable

TUNE = "tune"
CHOICES = "choices"
DEFAULT = "default"
EXAMPLE = "{tune: [1.0e-4, 1.0e-2], log: true}"
ALLOWED = f"[low, high], {{{CHOICES}: [a, b]}}, or {DEFAULT}"
KEYS = (TUNE, *(key for key in Tunable.model_fields if key not in ("range", "values")))


@dataclass(frozen=True)
class Form:
    """A search space that was read.

    Args:
        body: The tunable, without ``default`` where the file gives none.
    """

    body: JsonObject

    def tunable(self, usual: Json) -> JsonObject:
        """Returns the declared tunable with this meaning.

        Args:
            usual: The value that the field would have if it were not tuned: the default, or what
                is nearest to it in this space.
        """
        if "default" in self.body:
            return self.body
        return {**self.body, "default": _nearest(self.body, usual)}


def read_form(
    node: JsonObject, algorithm: Json, path: KeyPath
) -> tuple[list[ConfigError], Form | None]:
    """Reads an inline search space.

    Args:
        node: The mapping with ``tune``; a ready-made range is filled in already.
        algorithm: Name of the learner.
        path: Path of the field.

    Returns:
        What is wrong, each with its key below the field as ``field``; and the form, if nothing is.
    """
    problems = list(_keys(node)) + list(_shape(node[TUNE]))
    if problems:
        return problems, None
    argument = str(path[2]) if path[:2] == ("learner", "args") and len(path) == 3 else None
    body: JsonObject = {k: v for k, v in node.items() if k != TUNE}
    space = node[TUNE]
    if isinstance(space, dict):
        body = {"type": "categorical", **body, "values": space[CHOICES]}
        values = as_list(space[CHOICES])
    else:
        values = as_list(space)
        whole = _counts(values, str(algorithm).lower(), argument, path)
        body = {"type": "int" if whole else "float", **body, "range": values}
    problems = list(_of_tunable(body))
    if not problems and argument in ARGUMENTS.get(str(algorithm).lower(), {}):
        part = TUNE if body["type"] != "categorical" else f"{TUNE}.{CHOICES}"
        for value in values:
            problems += [
                e.but(hint=e.hint or f"narrow the space to values that {argument} takes")
                for e in TABLE[argument].rule.check(part, value)
            ]
    return problems, None if problems else Form(body)


def _keys(node: JsonObject) -> Iterator[ConfigError]:
    for key in node:
        if key not in KEYS:
            yield ConfigError(f"unknown key {key!r}", field=str(key), value=key, known=KEYS)


def _shape(space: Json) -> Iterator[ConfigError]:
    if isinstance(space, dict):
        yield from _choices(space)
        return
    if not isinstance(space, list):
        yield ConfigError(
            "is not a search space",
            field=TUNE,
            value=space,
            allowed=ALLOWED,
            hint=f"write `{EXAMPLE}` or `{{tune: {{choices: [64, 128, 256]}}}}`",
        )
        return
    numbers = [v for v in space if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(space) != 2 or len(numbers) != len(space):
        listed = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in space)
        yield ConfigError(
            "a range has two numbers, its lowest and its highest value",
            field=TUNE,
            value=space,
            allowed=ALLOWED,
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


def _counts(values: list[Json], algorithm: str, argument: str | None, path: KeyPath) -> bool:
    """Whether a range has whole numbers only: what counts, and what is written so elsewhere."""
    if argument in ARGUMENTS.get(algorithm, {}):
        return TABLE[str(argument)].rule.whole
    return all(isinstance(v, int) for v in values)


def _of_tunable(body: JsonObject) -> Iterator[ConfigError]:
    """What a declared tunable refuses, under the keys of the inline form."""
    range_ = body.get("range")
    first = range_[0] if isinstance(range_, list) else body["values"]
    default = first[0] if isinstance(first, list) else first
    try:
        Tunable.model_validate({"default": default, **body})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            cause = item.get("ctx", {}).get("error")
            own = cause if isinstance(cause, BadValue) else None
            key = str(item["loc"][0]) if item["loc"] else ""
            if own is not None and isinstance(own.key, str):
                key = own.key
            key = {"range": TUNE, "values": f"{TUNE}.{CHOICES}", "": TUNE}.get(key, key)
            value = body.get("range") if key == TUNE else body.get(key, body.get("values"))
            yield ConfigError(
                str(own) if own else item["msg"][0].lower() + item["msg"][1:],
                field=key,
                value=value,
                allowed=(own.allowed if own else None) or ALLOWED,
                hint=(own.hint if own else None) or f"for example `{EXAMPLE}`",
            )


def _nearest(body: JsonObject, usual: Json) -> Json:
    """The value of a space that is nearest to the usual one; without one, its middle."""
    number = usual if isinstance(usual, int | float) and not isinstance(usual, bool) else None
    choices = body.get("values")
    if isinstance(choices, list):
        for choice in choices:
            if type(choice) is type(usual) and choice == usual:
                return choice
        close = [c for c in choices if isinstance(c, int | float) and not isinstance(c, bool)]
        if number is None or len(close) < len(choices):
            return choices[0]
        return min(close, key=lambda c: abs(c - number))
    tunable = Tunable.model_validate({**body, "default": _low(body)})
    assert tunable.range is not None
    if number is None:
        return tunable.inside(0.5)
    nearest_ = min(max(number, tunable.range[0]), tunable.range[1])
    return tunable.take("default", nearest_ if tunable.type == "float" else round(nearest_))


def _low(body: JsonObject) -> Json:
    range_ = body["range"]
    assert isinstance(range_, list)
    return range_[0]
