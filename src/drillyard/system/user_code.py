"""Finds the line of the user's own source in which an exception was raised."""

from __future__ import annotations

import inspect
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType

_OURS = str(Path(__file__).resolve().parents[1])
_STANDARD = tuple(
    sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib") if name
)
_LIBRARIES = frozenset(
    {
        "drillyard",
        "drillyard_backends",
        "drillyard_emulators",
        "drillyard_flows",
        "drillyard_tasks",
        "gymnasium",
        "jax",
        "jaxlib",
        "numpy",
        "sb3_contrib",
        "sbx",
        "stable_baselines3",
        "torch",
        "wandb",  # takes the place of sys.exit
    }
)
"""Packages whose lines do not help: they only called the simulator, or were called by it."""

_UNPACKED = re.compile(r"^.*/code-[0-9a-f]{16}/")


def place(error: BaseException) -> str | None:
    """Returns ``file:line`` of the innermost frame that is the user's, with its function.

    A package that brings a simulator counts as the user's. Paths below the working folder are
    relative.

    Args:
        error: An exception that was raised.

    Returns:
        None if the exception never passed through such a frame.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return innermost([(f.filename, f.lineno or 0, f.name) for f in reversed(frames)])


def innermost(frames: Iterable[tuple[str, int, str]]) -> str | None:
    """Returns the first frame that is the user's, as ``place`` does.

    Args:
        frames: File, line and function of each, the innermost first.
    """
    for file, line, name in frames:
        if _is_users(file):
            return f"{_shown(file)}:{line}, in {name}"
    return None


def defined(function: Callable[..., object]) -> str | None:
    """Returns ``file:line`` of where the user defines a function, with its name.

    Args:
        function: A function or method.

    Returns:
        None if it is not the user's.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    return innermost([(code.co_filename, code.co_firstlineno, code.co_name)])


def described(error: BaseException) -> str:
    """Returns the type and the first line of an exception, with its place in the user's code."""
    text = (str(error).strip().splitlines() or [""])[0]
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    where = place(error)
    return f"{line} ({where})" if where else line


def _is_users(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    if path.startswith(_OURS + os.sep):
        return False
    _, separator, inside = path.rpartition(f"{os.sep}site-packages{os.sep}")
    if separator:
        return inside.split(os.sep)[0].removesuffix(".py") not in _LIBRARIES
    return not path.startswith(_STANDARD)


def _shown(file: str) -> str:
    # A run unpacks the experiment's code into a folder of its own, which ends with the run.
    path = _UNPACKED.sub("", os.path.abspath(file))
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
