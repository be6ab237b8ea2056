"""The type of parsed JSON, for content that really may be anything.

Where the keys are known, use a record or a ``TypedDict`` instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
    """Any value that JSON can express."""
    JsonView: TypeAlias = (
        bool | int | float | str | Sequence["JsonView"] | Mapping[str, "JsonView"] | None
    )
    """Any JSON value that is only read: narrower lists and dicts are JsonViews too."""
else:
    # pydantic keeps a field of this type as it was given: no copy, and no check of each value.
    Json = JsonView = object

JsonObject: TypeAlias = dict[str, Json]
"""A JSON object."""


def as_object(value: Json) -> JsonObject:
    """Returns the value if it is an object, and an empty object otherwise."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """Returns the value if it is a list, and an empty list otherwise."""
    return value if isinstance(value, list) else []


def as_number(value: JsonView) -> float | None:
    """Returns the value if it is a number, and None otherwise.

    A boolean is not a number. Records write numbers that are not finite as text (``"NaN"``), so
    that such a text is read as the number.
    """
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_integer(value: Json) -> int | None:
    """Returns the value as an integer if it is a finite number, and None otherwise."""
    number = as_number(value)
    return int(number) if number is not None and math.isfinite(number) else None


def as_numbers(value: JsonView) -> dict[str, float]:
    """Returns the numbers of an object by their names; nothing for another value."""
    items = value.items() if isinstance(value, Mapping) else ()
    numbers = ((str(name), as_number(inner)) for name, inner in items)
    return {name: float(number) for name, number in numbers if number is not None}
