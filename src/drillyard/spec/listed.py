"""The ``experiments:`` of a study: each one is merged over the file and resolved.

The record keeps the whole parts of each that differ from the file, so that a later reader needs
neither the file nor its presets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drillyard.documents.document import Document, KeyPath
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest
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
                hint=nearest(str(key), [*OF_THE_TRIAL, *PARTS]),
            )
    parts = {k: copy.deepcopy(v) for k, v in item.items() if k in PARTS}
    if "seeds" in item:
        parts["seeds"] = item["seeds"]
    return Document(parts, {}, place.file if place else "")


def lay(layer: Document, merged: Merged) -> None:
    """Lay a listed experiment over the file.

    Args:
        layer: From ``document``.
        merged: The file; changed.
    """
    for part, choice in _CHOICES.items():
        own = layer.mapping.get(part)
        before = merged.get(part, choice)
        if isinstance(own, dict) and own.get(choice, before) != before:
            merged.tree.pop(part, None)
    merged.lay(layer)


def without(tree: dict[str, Any], items: Sequence[Json]) -> dict[str, Any]:
    """The tree with a list that is only there: its items are resolved one by one."""
    if not items:
        return tree
    return {**tree, "study": {**tree["study"], "experiments": [{} for _ in items]}}


def with_resolved(
    spec: ExperimentSpec,
    items: Sequence[Mapping[str, Json]],
    layers: Sequence[Document],
    resolve: Callable[[Document], ExperimentSpec],
) -> ExperimentSpec:
    """The experiment with the listed ones of its study resolved: their own keys, and whole parts.

    Args:
        spec: The file.
        items: As they were written.
        layers: The layer of each one, from ``document``.
        resolve: Gives the experiment with a layer laid over the file.

    Raises:
        ConfigError: One cannot be; the field names it.
        ConfigErrors: For several reasons.
    """
    if not items or spec.study is None:
        return spec
    base = spec.model_dump(mode="json", by_alias=True)
    found = []
    for number, (item, layer) in enumerate(zip(items, layers, strict=True)):
        try:
            mine = resolve(layer).model_dump(mode="json", by_alias=True)
        except ConfigErrors as errors:
            raise ConfigErrors([_renamed(error, number) for error in errors.errors]) from None
        except ConfigError as error:
            raise _renamed(error, number) from error.__cause__
        parts = {k: mine[k] for k in (*PARTS, "parameters") if mine[k] != base[k]}
        found.append({**{k: copy.deepcopy(item[k]) for k in OF_THE_TRIAL if k in item}, **parts})
    study = spec.study.model_copy(update={"experiments": found})
    return spec.model_copy(update={"study": study})


def _renamed(error: ConfigError, number: int) -> ConfigError:
    field = f"study.experiments[{number}].{error.field}" if error.field else None
    return error.but(field=field)
