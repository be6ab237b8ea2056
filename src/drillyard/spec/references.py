"""Resolves ``$name``, ``${name}`` and ``${env:X}`` in values.

A value under a key that names a secret keeps its reference. ``reveal`` looks it up where it is
used, so that a secret never reaches a record, a report or a tracking server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError
from drillyard.system.redaction import is_secret_key, register_secret

REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{env:(?P<env>[A-Za-z_][A-Za-z0-9_]*)\}"
    r"|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<bare>[A-Za-z_]\w*)|(?P<broken>\{[^}]*\}?))"
)
_LINES = ("setup", "run", "teardown", "stop")
"""Fields with lists of commands, each a text or a list of words."""
_COMMANDS = ("start", "command")
"""Fields with one command."""
PER_RUN = ("run_id", "seed")
"""Known only when a run starts; passed on only where declared or referenced."""


def as_text(value: Json) -> str:
    """Writes a value as part of a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def keeps_references(path: KeyPath) -> bool:
    """True for values that are looked up where they are used and are in no record."""
    return path == ("notify",) or any(isinstance(p, str) and is_secret_key(p) for p in path)


def escape(text: str) -> str:
    """Escapes a text, so that it is not read as a reference."""
    return text.replace("$", "$$")


def as_word(path: Sequence[str | int], value: Json) -> Json:
    """A value that replaces a reference; as text where it is a word of a command.

    Args:
        path: Where the reference is: ``("script", "run", 0, 2)``.
        value: What it stands for.
    """
    if len(path) < 3 or not isinstance(path[-1], int) or not isinstance(value, int | float):
        return value
    in_list = isinstance(path[-2], int) and path[-3] in _LINES
    return as_text(value) if in_list or path[-2] in _COMMANDS else value


def names_of(text: str) -> list[str]:
    """The names that a text refers to, in order."""
    names = (m["braced"] or m["bare"] for m in REFERENCE.finditer(text))
    return [name for name in names if name]


def fill(text: str, values: Mapping[str, Json]) -> Json:
    """Fills the values of a run into a text with references.

    Args:
        text: From ``Names.resolve``.
        values: The run's parameters.

    Returns:
        The value with its type where the text is one reference, else a text.

    Raises:
        KeyError: A name that the run does not have.
    """

    def value_of(found: re.Match[str]) -> Json:
        name = found["braced"] or found["bare"]
        return values[name] if name else "$" if found["dollar"] else found[0]

    whole = REFERENCE.fullmatch(text)
    return value_of(whole) if whole else REFERENCE.sub(lambda m: as_text(value_of(m)), text)


def reveal(value: Json, lookup: Callable[[str], str | None] = os.environ.get) -> Any:
    """A tree with the ``${env:X}`` references of its secrets looked up, for use at once.

    Args:
        value: Arguments from the resolved experiment.
        lookup: Name of a variable -> its value.

    Raises:
        ConfigError: A variable is not set where it is needed; names it, never its value.
    """
    if isinstance(value, dict):
        return {k: reveal(v, lookup) for k, v in value.items()}
    if isinstance(value, list):
        return [reveal(v, lookup) for v in value]
    if not isinstance(value, str) or "${env:" not in value:
        return value

    def look(found: re.Match[str]) -> str:
        if not found["env"]:
            return found[0]
        secret = lookup(found["env"])
        if secret is None:
            raise ConfigError(
                f"the environment has no variable {found['env']}",
                value=found[0],
                hint="set it where the worker runs",
            )
        register_secret(secret)
        return secret

    return REFERENCE.sub(look, value)
