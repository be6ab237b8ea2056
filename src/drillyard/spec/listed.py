"""The ``experiments:`` of a study: each one is merged over the file and resolved.

The record keeps the whole parts of each that differ from the file, so that a later reader needs
neither the file nor its presets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drillyard.documents.document import Document, KeyPath, Mark
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec.precedence import Merged

if TYPE_CHECKING:
    from drillyard.spec.experiment import ExperimentSpec

PARTS = (
    "workload",
    "simulator",
    "learner",
    "train",
    "evaluate",
    "baselines",
    "script",
    "mock",
    "children",
)
OF_THE_TRIAL = ("label", "seeds", "values")
"""Keys of a listed experiment that are not parts of an experiment."""
_CHOICES = {"learner": "algorithm", "simulator": "id"}
"""A part with another value of these keys replaces the file's part completely."""
AT: KeyPath = ("study", "experiments")


def take(merged: Merged) -> list[JsonObject]:
    """Take the listed experiments out of the tree, as they were written; their places stay.

    Returns:
        [] where there are none, or where the model will say what is wrong with them.
    """
    items = merged.get("study", "experiments")
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        return []
    merged.tree["study"]["experiments"] = []
    return items


def document(number: int, item: Mapping[str, Json], merged: Merged) -> Document:
    """A listed experiment as a layer over the file.

    Raises:
        ConfigError: A key that no listed experiment has.
    """
    place = merged.place((*AT, number))
    for key in item:
        if key not in (*PARTS, *OF_THE_TRIAL):
            raise ConfigError(
                f"a listed experiment cannot have {key!r}",
                file=place.file if place else None,
                line=place.line if place else None,
                field=f"study.experiments[{number}].{key}",
                allowed=", ".join((*OF_THE_TRIAL, *PARTS)),
                keys=[*OF_THE_TRIAL, *PARTS],
            )
    parts = {k: copy.deepcopy(v) for k, v in item.items() if k in PARTS}
    if "seeds" in item:
        parts["seeds"] = item["seeds"]
    at = (*AT, number)
    marks = {
        path[len(at) :]: Mark(where.line, 0, where.raw)
        for path, where in merged.places.items()
        if path[: len(at)] == at and len(path) > len(at) and where.line is not None
    }
    return Document(parts, marks, place.file if place else "")


def lay(layer: Document, merged: Merged) -> None:
    """Lay a listed experiment over the file.

    Args:
        layer: From ``document``.
        merged: The file; changed.
    """
    for part, choice in _CHOICES.items():
        over, before = layer.mapping.get(part), merged.get(part, choice)
        if isinstance(over, dict) and over.get(choice, before) != before:
            merged.tree.pop(part, None)
    merged.lay(layer)


def without(tree: dict[str, Any], items: Sequence[Json]) -> dict[str, Any]:
    """The tree with a list that is only there: its items are resolved one by one."""
    if not items:
        return tree
    return {**tree, "study": {**tree["study"], "experiments": [{} for _ in items]}}


def resolved(
    layers: Sequence[Document],
    resolve: Callable[[Document], ExperimentSpec],
    known: Sequence[ConfigError],
    named: Callable[[int, str], str] | None,
) -> tuple[list[ExperimentSpec], list[ConfigError]]:
    """Resolves the listed experiments.

    Args:
        layers: The layer of each one, from ``document``.
        resolve: Gives the experiment with a layer laid over the file.
        known: What is wrong with the file; it is not told again.
        named: Gives the field as it was written, for the number and the field of a listed one.

    Returns:
        The experiments, and what is wrong with any of them, each mistake once.
    """
    specs: list[ExperimentSpec] = []
    problems: list[ConfigError] = []
    reported = {_what(error) for error in known}
    for number, layer in enumerate(layers):
        try:
            specs.append(resolve(layer))
        except (ConfigError, ConfigErrors) as wrong:
            for error in wrong.errors:
                if _what(error) in reported:
                    continue
                reported.add(_what(error))
                inner = error.field or ""
                whole = named(number, inner) if named else f"study.experiments[{number}].{inner}"
                problems.append(error.but(field=whole if inner else None))
    return specs, problems


def _what(error: ConfigError) -> tuple[object, ...]:
    return error.file, error.line, error.field, error.message, repr(error.value)


def with_resolved(
    spec: ExperimentSpec, items: Sequence[Mapping[str, Json]], specs: Sequence[ExperimentSpec]
) -> ExperimentSpec:
    """The experiment with the listed ones of its study resolved: their own keys, and whole parts.

    Args:
        spec: The file.
        items: As they were written.
        specs: Each one, from ``resolved``.
    """
    if not items or spec.study is None:
        return spec
    base = spec.model_dump(mode="json", by_alias=True)
    listed = []
    for item, other in zip(items, specs, strict=True):
        tree = other.model_dump(mode="json", by_alias=True)
        parts = {k: tree[k] for k in (*PARTS, "parameters") if tree[k] != base[k]}
        listed.append({**{k: copy.deepcopy(item[k]) for k in OF_THE_TRIAL if k in item}, **parts})
    study = spec.study.model_copy(update={"experiments": listed})
    return spec.model_copy(update={"study": study})
