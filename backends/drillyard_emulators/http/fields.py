"""Typed access to the fields of JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from drillyard.documents.json_types import JsonView

Document: TypeAlias = dict[str, JsonView]
"""A JSON object, in requests, answers and the emulator's books."""
Fields: TypeAlias = Mapping[str, JsonView]
"""A JSON object that is only read."""


def member(document: Fields, name: str) -> Fields:
    """The object under a name; an empty one where it is absent or null.

    Raises:
        TypeError: The value is not an object.
    """
    return as_object(document.get(name) or {}, name)


def members(document: Fields, name: str) -> list[Fields]:
    """The list of objects under a name; an empty one where it is absent or null.

    Raises:
        TypeError: The value is not a list of objects.
    """
    return [as_object(value, name) for value in items(document, name)]


def items(document: Fields, name: str) -> Sequence[JsonView]:
    """The list under a name; an empty one where it is absent or null.

    Raises:
        TypeError: The value is not a list.
    """
    value = document.get(name) or []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is {value!r}, not a list")
    return value


def texts(document: Fields, name: str) -> list[str]:
    """The list of texts under a name; an empty one where it is absent or null."""
    return [str(value) for value in items(document, name)]


def text_fields(document: Fields, name: str) -> dict[str, str]:
    """The object of texts under a name; an empty one where it is absent or null."""
    return {key: str(value) for key, value in member(document, name).items()}


def number_fields(document: Fields, name: str) -> dict[str, float]:
    """The object of numbers under a name; an empty one where it is absent or null."""
    values = member(document, name)
    return {key: number(values, key) for key in values}


def text(document: Fields, name: str, default: str = "") -> str:
    """The text under a name, or the default where it is absent, null or empty."""
    return str(document.get(name) or default)


def number(document: Fields, name: str, default: float = 0.0) -> float:
    """The number under a name, which may be written as text, or the default.

    Raises:
        TypeError: The value is not a number.
        ValueError: The text is not one of a number.
    """
    value = document.get(name)
    if not isinstance(value, int | float | str | None):
        raise TypeError(f"{name} is {value!r}, not a number")
    return default if value is None or value == "" else float(value)


def as_object(value: JsonView, name: str) -> Fields:
    """A value that has to be an object.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {value!r}, not an object")
    return value
