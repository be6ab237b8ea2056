"""Parameters of a run as environment variables and as a file."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, nearest
from drillyard.spec.work import EnvironmentSpec

_ILLEGAL = re.compile(r"[^A-Za-z0-9_]")
_TAKEN = {
    "PATH",
    "HOME",
    "PWD",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "TMPDIR",
}
"""A parameter that happens to be called so would break every program; a rename may say it."""


def variable(name: str) -> str:
    """The variable of a parameter without a rename."""
    plain = _ILLEGAL.sub("_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def names(
    spec: EnvironmentSpec, known: Iterable[str], section: str = "script.environment"
) -> dict[str, str]:
    """Parameter -> variable.

    Args:
        spec: Which, and what they are called.
        known: All parameters of the run.
        section: Where it stands, for messages.

    Raises:
        ConfigError: Unknown parameters, two of one name, or a name that programs rely on.
    """
    there = list(known)
    chosen = there if spec.parameters == "all" else list(spec.parameters)
    for field, asked in (("parameters", chosen), ("rename", list(spec.rename))):
        unknown = [name for name in asked if name not in there]
        if unknown:
            raise ConfigError(
                f"there is no parameter {unknown[0]!r}",
                field=f"{section}.{field}",
                allowed=", ".join(sorted(there)) or "no parameter is declared",
                hint=nearest(unknown[0], there) + "; declare it under parameters",
            )
    words: dict[str, str] = {}
    for name in dict.fromkeys([*chosen, *spec.rename]):
        word = spec.rename.get(name) or variable(name)
        if word in _TAKEN and name not in spec.rename:
            raise ConfigError(
                f"the parameter {name!r} would replace the variable {word} that programs need",
                field=f"{section}.parameters",
                value=name,
                hint=f"rename it: {section}.rename: {{{name}: MY_{word}}}",
            )
        if word in words.values():
            other = next(n for n, w in words.items() if w == word)
            raise ConfigError(
                f"{other!r} and {name!r} are both the variable {word}",
                field=section,
                value=name,
                hint=f"rename one: {section}.rename: {{{name}: {word}_2}}",
            )
        words[name] = word
    return words


def environment(
    spec: EnvironmentSpec, parameters: Mapping[str, Json], facts: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a script's processes.

    Args:
        spec: Which parameters, and what they are called.
        parameters: Parameters of the run.
        facts: What drillyard says besides, by variable.
    """
    # `python` is the interpreter that drillyard runs with.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    chosen = {word: as_text(parameters[name]) for name, word in names(spec, parameters).items()}
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **facts, **chosen}


def as_text(value: Json) -> str:
    """A value as a variable has it: ``true``, ``3.0``, a text as it is, other things as JSON."""
    if isinstance(value, str):
        return value.replace("\0", "")
    return "" if value is None else json.dumps(value)


def write_file(path: Path, parameters: Mapping[str, Json]) -> None:
    """All parameters as a JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(parameters), indent=1, sort_keys=True, ensure_ascii=False))
