"""The state of a simulator as JSON, arrays included."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from drillyard.documents.json_types import Json
from drillyard.errors import CorruptObject

_ARRAY, _ITEMS = "$array", "$items"


def to_json(value: Any) -> Json:
    """JSON from which ``from_json`` makes the same value.

    Args:
        value: None, booleans, numbers, texts, lists, tuples and dicts of them, and arrays.

    Raises:
        ValueError: Something else is in it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise ValueError("an array of Python objects is in the state")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {_ARRAY: [kind, value.dtype.str, list(value.shape), data]}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {_ITEMS: [[to_json(key), to_json(item)] for key, item in value.items()]}
    raise ValueError(f"a {type(value).__name__} is in the state")


def from_json(value: Any) -> Any:
    """The value that ``to_json`` was given; a tuple comes back as a list.

    Raises:
        CorruptObject: ``to_json`` did not write this.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    try:
        if _ARRAY in value:
            kind, dtype, shape, data = value[_ARRAY]
            array = np.frombuffer(base64.b64decode(data), np.dtype(dtype)).reshape(shape).copy()
            return array if kind == "array" else array[()]
        if _ITEMS in value:
            return {from_json(key): from_json(item) for key, item in value[_ITEMS]}
    except (TypeError, ValueError) as error:
        raise CorruptObject(f"the state of a simulator is damaged: {error}") from error
    return {key: from_json(item) for key, item in value.items()}
