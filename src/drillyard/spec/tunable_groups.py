"""Groups of tunables of a file: its own, included ones, and which of them are active."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drillyard.documents.files import read_document
from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, ConfigErrors, nearest
from drillyard.spec.precedence import Merged, Place


def all_groups(merged: Merged, folder: Path, problems: list[ConfigError]) -> dict[str, Any]:
    """Every group that a file declares or includes; included ones are merged into its values.

    Args:
        merged: The experiment's values.
        folder: Where included files are looked for.
        problems: Gets what is wrong, files that cannot be read too.
    """
    files = merged.get("parameters", "include_tunables") or []
    own = merged.get("parameters", "tunables")
    groups = dict(own) if isinstance(own, dict) else {}
    for number, name in enumerate(files if isinstance(files, list) else []):
        if not isinstance(name, str):
            continue  # the model says so
        field = f"parameters.include_tunables[{number}]"
        try:
            document = read_document(folder / name, name)
        except ConfigError as error:
            if error.line is None:  # the file itself, not something in it
                message = f"the file {name!r} {error.message}"
                error = error.but(message=message, file=None, field=field)
            problems.append(error)
            continue
        except ConfigErrors as errors:
            problems += errors.errors
            continue
        if not isinstance(document.value, dict):
            problems.append(
                ConfigError(
                    "has no groups of tunables",
                    file=name,
                    line=1,
                    allowed="{group: {cost, params: {name: {type, range or values, default}}}}",
                    hint="begin with `group:`, and `params:` below it",
                )
            )
            continue
        for group, body in document.value.items():
            if group in groups and groups[group] != body:
                problems.append(
                    ConfigError(
                        "has two different declarations",
                        file=name,
                        line=document.line((group,)),
                        field=f"parameters.tunables.{group}",
                        value=group,
                        allowed="one declaration for each group",
                        hint="rename one of them, or delete it",
                    )
                )
            groups.setdefault(group, body)
        merged.places.update(
            {
                ("parameters", "tunables", *path): Place(name, mark.line, mark.raw)
                for path, mark in document.marks.items()
                if path and ("parameters", "tunables", *path) not in merged.places
            }
        )
    if files and isinstance(merged.tree.get("parameters"), dict):
        merged.tree["parameters"]["tunables"] = groups
    return groups


def active_groups(
    merged: Merged, groups: Mapping[str, Any], mapping: Any, problems: list[ConfigError]
) -> list[str]:
    """The names in ``tunable_params``, with ``$references`` looked up; written back resolved.

    Args:
        merged: The experiment's values.
        groups: Every group.
        mapping: ``tunable_params_map`` of the globals.
        problems: Gets what is wrong.
    """
    names = merged.get("parameters", "tunable_params")
    found: list[str] = []
    for number, name in enumerate(names if isinstance(names, list) else []):
        field = f"parameters.tunable_params[{number}]"
        for group in _by_reference(name, mapping, field, problems):
            if group not in groups:
                problems.append(
                    ConfigError(
                        "no such group of tunables",
                        field=field,
                        value=group,
                        allowed=", ".join(sorted(groups)) or "none are declared",
                        known=sorted(groups),
                    )
                )
            elif group not in found:
                found.append(group)
    if isinstance(names, list) and all(isinstance(n, str) for n in names):
        merged.tree["parameters"]["tunable_params"] = found
    return found


def _by_reference(name: Any, mapping: Json, field: str, problems: list[ConfigError]) -> list[str]:
    if not isinstance(name, str):
        return []
    if not name.startswith("$"):
        return [name]
    key = name[1:].removeprefix("{").removesuffix("}")
    if isinstance(mapping, dict) and key in mapping:
        value = mapping[key]
        return [str(v) for v in value] if isinstance(value, list) else [str(value)]
    known = sorted(mapping) if isinstance(mapping, dict) else []
    problems.append(
        ConfigError(
            f"${key} is not in tunable_params_map",
            field=field,
            value=name,
            allowed=", ".join(known) or "globals have no tunable_params_map",
            hint=nearest(key, known)
            if known
            else "give it in a globals file: tunable_params_map: {" + key + ": [group]}",
        )
    )
    return []
