"""Lays the values of an experiment over those of its preset."""

from __future__ import annotations

from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.errors import ConfigError
from drillyard.findings import Finding, passed
from drillyard.spec import presets
from drillyard.spec.locating import located
from drillyard.spec.precedence import Merged


def with_preset(
    merged: Merged, file: str, problems: list[ConfigError]
) -> tuple[Merged, list[Finding]]:
    """Returns an experiment with its preset under it, and what to say about that.

    Args:
        merged: The experiment without its preset.
        file: Name of the experiment's file.
        problems: Receives what is wrong with the choice of the preset.
    """
    learner = merged.tree.get("learner")
    if not isinstance(learner, dict) or merged.tree.get("workload", "rl") != "rl":
        return merged, []
    preset = learner.get("preset", "auto")
    if preset is not None and not isinstance(preset, str):
        return merged, []  # the model reports the error
    train = merged.tree.get("train") or {}
    budget = isinstance(train, dict) and not train.keys() & {"steps", "episodes"}
    try:
        layer = presets.find(
            preset, learner.get("algorithm"), merged.get("simulator", "id"), budget=budget
        )
    except ConfigError as error:
        problems.append(located(error, merged, file))
        return merged, []
    if layer is None:
        return merged, []
    under = Merged()
    under.lay(layer)
    # What the file says lies over the preset, with its places.
    _overlay(under.tree, merged.tree, (), under)
    under.places.update(merged.places)
    return under, [
        passed(
            "preset",
            f"{layer.file} sets the values that the file does not set",
            "to use no preset: learner.preset: null; `drillyard explain` shows each value",
        )
    ]


def _overlay(base: dict[str, Any], over: dict[str, Any], path: KeyPath, merged: Merged) -> None:
    for key, value in over.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(base.get(key), dict) and value:
            _overlay(base[key], value, here, merged)
        elif not (isinstance(value, dict) and not value and isinstance(base.get(key), dict)):
            merged.places = {k: p for k, p in merged.places.items() if k[: len(here)] != here}
            base[key] = value
