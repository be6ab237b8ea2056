"""Resolves the children of a composite: reads their files and fills in their parameters.

A child is resolved together with its parent's file, so that its errors are reported before
anything runs, and a worker needs no file. Values that only a run knows stay with the parent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drillyard.documents.document import Document, KeyPath
from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError
from drillyard.findings import Finding, passed
from drillyard.spec.experiment import ChildSpec
from drillyard.spec.names import Late, Names, Parameter
from drillyard.spec.parameters import (
    Outside,
    expand,
    fields,
    resolve_parameters,
    written,
)
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.references import escape
from drillyard.spec.tunable_groups import read_beside

MAX_DEPTH = 8
_OF_ALL = ("backend", "resources", "seeds")
"""Fields of a whole experiment, which a child has only where its composite says so: a child's file
may be an experiment file."""
_TOO_DEEP = ConfigError(
    "children are nested too deep",
    field="children",
    allowed=f"at most {MAX_DEPTH} composites inside one another",
    hint="a file must not name itself as its child",
)
Prepare = Callable[[Merged, str, list[ConfigError]], tuple[Merged, list[Finding]]]


@dataclass
class Children:
    """The result of resolving all children, at every depth."""

    scopes: list[Names] = field(default_factory=list)
    problems: list[ConfigError] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def resolve_children(
    merged: Merged,
    parent: Names,
    outside: Outside,
    folder: Path,
    prepare: Prepare,
    depth: int = 0,
) -> Children:
    """Resolve ``children:`` in place.

    Args:
        merged: The parent's values, expanded.
        parent: Its parameters; gets what runs fill in inside the children.
        outside: Globals, command line and assigned tunables: these reach every child.
        folder: Where files of children are looked for.
        prepare: Lays presets under a child.
        depth: Composites above this one.
    """
    children = Children()
    items = merged.tree.get("children")
    if not isinstance(items, list):
        return children
    places = _by_child(merged)
    given = _given(merged, parent)
    values = written(merged, "tunable_values")
    for number, item in enumerate(items):
        here: KeyPath = ("children", number)
        opened = _open(item, here, places[number], folder, merged, children)
        if opened is None:
            continue
        child, at = opened
        child, findings = prepare(child, (merged.place(here) or Place("")).file, children.problems)
        theirs = written(child, "tunable_values")
        wider = replace(outside, assigned={**theirs, **outside.assigned}, parent=given)
        names = resolve_parameters(child, wider, at)
        expand(child, names)
        inner = (
            resolve_children(child, names, wider, at, prepare, depth + 1)
            if depth < MAX_DEPTH
            else Children(problems=[_TOO_DEEP])
        )
        children.scopes += [names, *inner.scopes]
        children.findings += [*findings, *inner.findings]
        for problem in (*names.problems, *inner.problems):
            field = f"children[{number}].{problem.field}" if problem.field else None
            children.problems.append(problem.but(field=field))
        values.update({k: v for k, v in theirs.items() if k not in values})
        _write_back(merged, here, child, names, parent)
    if values and isinstance(merged.tree.setdefault("parameters", {}), dict):
        merged.tree["parameters"]["tunable_values"] = {k: p.value for k, p in values.items()}
        merged.places |= {("parameters", "tunable_values", k): p.place for k, p in values.items()}
    return children


def _by_child(merged: Merged) -> dict[int, dict[KeyPath, Place]]:
    """Places of each child's values, by its own paths; one pass over all of them."""
    by_child: dict[int, dict[KeyPath, Place]] = defaultdict(dict)
    for path, place in merged.places.items():
        if len(path) > 1 and path[0] == "children" and isinstance(path[1], int):
            by_child[path[1]][path[2:]] = place
    return by_child


def _given(merged: Merged, parent: Names) -> dict[str, Parameter]:
    """What a child may be given by its parent, should it declare it: nothing of its siblings."""
    constants = merged.get("parameters", "const_args")
    given: dict[str, Parameter] = {}
    for name in parent.constants:
        if isinstance(constants, dict) and name in constants:
            path: KeyPath = ("parameters", "const_args", name)
            place = merged.place(path) or Place("")
            given[name] = Parameter(_as_late(constants[name], path, parent), place)
    given |= {name: Parameter(p.value, p.place) for name, p in parent.varied.items()}
    above = parent.values["experiment_id"]
    return given | {"experiment_id": Parameter(above.value, above.place)}


def _as_late(value: Json, path: KeyPath, parent: Names) -> Any:
    """A resolved value for use in another scope: literal, or filled in by the run."""
    if path in parent.late:
        return Late(value, parent.late[path])
    if isinstance(value, dict):
        return {k: _as_late(v, (*path, k), parent) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_late(v, (*path, i), parent) for i, v in enumerate(value)]
    return escape(value) if isinstance(value, str) else value


def _open(
    item: Json,
    here: KeyPath,
    places: dict[KeyPath, Place],
    folder: Path,
    merged: Merged,
    children: Children,
) -> tuple[Merged, Path] | None:
    """A child's own values, and the folder that its files lie in; None: the model says why."""
    over = dict(item) if isinstance(item, dict) else {}
    file = item if isinstance(item, str) else over.pop("file", None)
    if not isinstance(file, str):
        return (Merged(item, dict(places)), folder) if isinstance(item, dict) else None
    child = _of_file(file, f"children[{here[1]}]", folder, children)
    if child is None:
        return None
    if isinstance(item, dict):
        place = merged.place((*here, "file")) or Place("")
        child.lay(Document(over, {}, place.file))
        child.places |= {p: place for p, place in places.items() if p and p[0] != "file"}
    return child, (folder / file).parent


def _of_file(file: str, field: str, folder: Path, children: Children) -> Merged | None:
    document = read_beside(folder, file, field, f"the child's file {file!r}: ", children.problems)
    if document is None:
        return None
    if not isinstance(document.value, dict):
        children.problems.append(
            ConfigError(
                "is not a child",
                file=file,
                line=1,
                allowed="a mapping of keys",
                hint="begin with `name:` and `workload:`",
            )
        )
        return None
    child = Merged()
    known = {f.alias or name for name, f in ChildSpec.model_fields.items()} - {*_OF_ALL}
    for_all = [k for k in document.value if k not in known and k in fields()]
    values = {k: v for k, v in document.value.items() if k not in for_all}
    child.lay(replace(document, value=values))
    if for_all:
        children.findings.append(
            passed(
                field,
                f"{', '.join(for_all)} of {file} are ignored; the composite's values are used",
                "set them in the composite",
            )
        )
    return child


def _write_back(merged: Merged, here: KeyPath, child: Merged, names: Names, parent: Names) -> None:
    section = child.tree.setdefault("parameters", {})
    if isinstance(section, dict):
        section["per_run"] = []  # resolved: the parent keeps what runs fill in
    merged.tree["children"][here[1]] = child.tree
    merged.places |= {(*here, *path): place for path, place in child.places.items()}
    parent.late |= {(*here, *p): text for p, text in names.late.items()}
