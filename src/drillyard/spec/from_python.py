"""Converts values of a Python program into values of an experiment file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from drillyard.errors import ConfigError


def as_text(value: object, shown: str) -> str:
    """A value as a command line would have it: texts as they are, the rest as JSON.

    Args:
        value: Anything that ``plain`` takes.
        shown: Its field, for messages.
    """
    return value if isinstance(value, str) else _text(value, shown)


def as_sets(path: list[str], value: object) -> list[str]:
    """A value as ``--set`` texts, one for each leaf of a mapping.

    Args:
        path: Where it belongs.
        value: Anything that ``plain`` takes.
    """
    if (
        isinstance(value, Mapping)
        and value
        and not any(c in str(k) for k in value for c in ".[]=")
    ):
        return [s for key, inner in value.items() for s in as_sets([*path, str(key)], inner)]
    return [f"{'.'.join(path)}={_text(value, '.'.join(path))}"]


def _text(value: object, shown: str) -> str:
    return json.dumps(plain(value, shown), ensure_ascii=False, allow_nan=False)


def plain(value: Any, shown: str) -> Any:
    """A Python value as an experiment file would have it.

    Args:
        value: JSON values, paths, arrays' numbers, classes and functions.
        shown: Its field, for messages.

    Raises:
        ConfigError: A class or function that a worker could not import, or any other object.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{shown}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, shown) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if inspect.isclass(value) or inspect.isfunction(value):
        return import_path(value, shown)
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        return plain(value.item(), shown)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise ConfigError(
        f"an object of {type(value).__name__} cannot be part of an experiment",
        field=shown,
        allowed="numbers, texts, lists, mappings, and classes that a worker can import",
        hint="pass the class and its arguments instead of the object",
    )


def import_path(thing: Any, shown: str) -> str:
    """``module:Name`` of a class or function, as a worker imports it.

    Raises:
        ConfigError: A worker could not: it is of ``__main__``, inside a function, or replaced.
    """
    import sys

    module, name = thing.__module__, thing.__qualname__
    reason = None
    if module == "__main__":
        reason = "is defined in the program itself, which workers do not run"
    elif "<" in name:
        reason = "is defined inside a function"
    else:
        there: object = sys.modules.get(module)
        for part in name.split("."):
            there = getattr(there, part, None)
        if there is not thing:
            reason = f"is not what {module}:{name} gives"
    if reason:
        raise ConfigError(
            f"a worker could not import it: {name} {reason}",
            field=shown,
            allowed="a class at the top of a module beside the experiment file, or installed",
            hint=f"move {name.rpartition('.')[2]} into a module of its own and import it",
        )
    return f"{module}:{name}"
