"""Gymnasium spaces as JSON and back: ``spaces.json`` beside every policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from drillyard.errors import CorruptObject, SpaceMismatch


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises:
        SpaceMismatch: No learner supports this kind of space.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {k: space_to_json(s) for k, s in space.items()}}
    if isinstance(space, spaces.Box):
        return {
            "kind": "Box",
            "dtype": str(space.dtype),
            "shape": list(space.shape),
            "low": _bounds(space.low),
            "high": _bounds(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        n = space.n if isinstance(space.n, int | np.integer) else list(space.n)
        return {"kind": "MultiBinary", "n": n if isinstance(n, list) else int(n)}
    raise SpaceMismatch(
        f"no learner supports a {type(space).__name__} space",
        hint="use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them",
    )


def space_from_json(text: dict[str, Any]) -> spaces.Space[Any]:
    """A space from its JSON.

    Raises:
        CorruptObject: Not such JSON.
    """
    try:
        kind = text["kind"]
        if kind == "Dict":
            return spaces.Dict({k: space_from_json(s) for k, s in text["spaces"].items()})
        if kind == "Box":
            shape, dtype = tuple(text["shape"]), np.dtype(text["dtype"])
            low, high = (_array(text[end], shape, dtype) for end in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(text["n"], start=text["start"])
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(text["nvec"]))
        if kind == "MultiBinary":
            return spaces.MultiBinary(text["n"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(f"not a space: {error}") from error
    raise CorruptObject(f"there is no space {kind!r}")


def _bounds(array: np.ndarray[Any, Any]) -> Any:
    """One number where all are the same (an image has many), else a nested list.

    Infinities are texts: JSON has none.
    """
    if array.size and (array == array.flat[0]).all():
        array = array.flat[0]
    return _texts(np.asarray(array, dtype=object).tolist())


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(v) for v in value]
    number = value.item() if isinstance(value, np.generic) else value
    return str(number) if isinstance(number, float) and np.isinf(number) else number


def _array(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    numbers = np.array(_numbers(value), dtype=dtype)
    return np.broadcast_to(numbers, shape).astype(dtype)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if isinstance(value, str) else value
