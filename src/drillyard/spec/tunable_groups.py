"""Groups of tunables of a file: its own, included ones, and which of them are active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drillyard.documents.document import Document
from drillyard.documents.files import read_document
from drillyard.documents.json_types import Json, as_list, as_object
from drillyard.errors import ConfigError, ConfigErrors, nearest
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.tunables.space import no_such_group


def tunables_of(groups: Mapping[str, Json]) -> Iterator[tuple[str, str, Json]]:
    """Yields (group, name, declaration) of every tunable; malformed groups have none."""
    for group, body in groups.items():
        params = body.get("params") if isinstance(body, dict) else None
        for name, tunable in params.items() if isinstance(params, dict) else ():
            yield group, str(name), tunable


def all_groups(merged: Merged, folder: Path, problems: list[ConfigError]) -> dict[str, Any]:
    """Every group that a file declares or includes; included ones are merged into its values.

    Args:
        merged: The experiment's values.
        folder: Where included files are looked for.
        problems: Gets what is wrong, files that cannot be read too.
    """
    files = merged.get("parameters", "include_tunables") or []
    groups = dict(as_object(merged.get("parameters", "tunables")))
    for number, name in enumerate(as_list(files)):
        if not isinstance(name, str):
            continue  # the model says so
        field = f"parameters.include_tunables[{number}]"
        document = read_beside(folder, name, field, f"the file {name!r} ", problems)
        if document is None:
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
            if groups.setdefault(group, body) != body:
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
        for path, mark in document.marks.items():
            if path:
                place = Place(name, mark.line, mark.raw)
                merged.places.setdefault(("parameters", "tunables", *path), place)
    if files and isinstance(merged.tree.get("parameters"), dict):
        merged.tree["parameters"]["tunables"] = groups
    return groups


def read_beside(
    folder: Path, name: str, field: str, what: str, problems: list[ConfigError]
) -> Document | None:
    """Reads a file that an experiment names; None if it cannot be read.

    Args:
        folder: Where the file is looked for.
        name: Its name in the experiment.
        field: Field that names it.
        what: Begins the message about the file itself.
        problems: Gets what is wrong.
    """
    try:
        return read_document(folder / name, name)
    except (ConfigError, ConfigErrors) as error:
        problems += [
            # An error without a line is about the file itself.
            e if e.line is not None else e.but(message=what + e.message, file=None, field=field)
            for e in error.errors
        ]
    return None


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
    active: list[str] = []
    for number, name in enumerate(as_list(names)):
        field = f"parameters.tunable_params[{number}]"
        for group in _by_reference(name, mapping, field, problems):
            if group not in groups:
                problems.append(no_such_group(group, groups, field))
            elif group not in active:
                active.append(group)
    if isinstance(names, list) and all(isinstance(n, str) for n in names):
        merged.tree["parameters"]["tunable_params"] = active
    return active


def _by_reference(name: Any, mapping: Json, field: str, problems: list[ConfigError]) -> list[str]:
    if not isinstance(name, str):
        return []
    if not name.startswith("$"):
        return [name]
    key, groups = name[1:].removeprefix("{").removesuffix("}"), as_object(mapping)
    if key in groups:
        value = groups[key]
        return [str(v) for v in value] if isinstance(value, list) else [str(value)]
    known = sorted(groups)
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
