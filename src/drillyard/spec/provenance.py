"""The origin of every value of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import JsonObject
from drillyard.documents.scalars import dotted
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.parameter_errors import GIVEN
from drillyard.spec.precedence import (
    Merged,
    Place,
    leaves,
)
from drillyard.spec.references import names_of


def visible(spec: ExperimentSpec) -> JsonObject:
    """Returns the experiment as JSON, without drillyard's own entries."""
    dumped = spec.model_dump(mode="json", by_alias=True)
    stack = [dumped]
    while stack:
        item = stack.pop()
        item["parameters"].pop("per_run")
        stack += item["children"]
    return dumped


def provenance_of(spec: ExperimentSpec, merged: Merged) -> dict[str, str]:
    """Returns dotted path -> origin for every value."""
    origins: dict[str, str] = {}
    dumped = visible(spec)
    late = {
        tuple(p.at): p.text
        for p in spec.parameters.per_run or ()
        if set(names_of(p.text)) & set(GIVEN)
    }
    for path in leaves(dumped):
        place = _origin(path, merged)
        origins[dotted(path)] = str(place) if place else "default"
        if path in late:
            origins[dotted(path)] += f"; each run has its own: {late[path]}"
    return origins


def with_listed(
    provenance: Mapping[str, str], items: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    """Returns the origins with those of the listed experiments of a study.

    A listed experiment is resolved by itself, so the whole file does not know that a preset of its
    own gave a value.

    Args:
        provenance: Dotted path -> origin, of the file.
        items: The same of each listed experiment, with paths from its own root.
    """
    whole = dict(provenance)
    for number, origins in enumerate(items):
        start = f"study.experiments[{number}]."
        for path in whole:
            if path.startswith(start):
                whole[path] = origins.get(path.removeprefix(start), whole[path])
    return whole


def _origin(path: KeyPath, merged: Merged) -> Place | None:
    """The place of a value: its own, or of what it was made from (``- normalize``); else None."""
    tree: Any = merged.tree
    for depth, part in enumerate(path):
        held = isinstance(tree, dict) or (isinstance(tree, list) and isinstance(part, int))
        if not held:
            return merged.places.get(path[:depth])  # the model made more of it than was written
        if part not in tree if isinstance(tree, dict) else int(part) >= len(tree):
            return None
        tree = tree[part]
    for depth in range(len(path), 0, -1):
        if path[:depth] in merged.places:
            return merged.places[path[:depth]]
    return None
