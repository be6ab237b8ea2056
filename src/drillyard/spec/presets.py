"""Tuned hyperparameters by algorithm and simulator: ``presets.yaml`` beside this module."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from drillyard.errors import ConfigError
from drillyard.registry import nearest
from drillyard.spec.document import Document
from drillyard.spec.files import read_document

_FILE = Path(__file__).with_name("presets.yaml")


@cache
def table() -> tuple[dict[str, Any], ...]:
    """Every preset: ``name``, ``when`` (algorithm, simulator), ``values``, ``measured``."""
    return tuple(read_document(_FILE, _FILE.name).value["presets"])


def find(preset: str | None, algorithm: object, simulator: object) -> Document | None:
    """The layer that a preset lays under the file's values.

    Args:
        preset: ``auto``, a preset's name, or None for none.
        algorithm: Name of the learner.
        simulator: Id of the simulator.

    Returns:
        The layer, or None when none fits.

    Raises:
        ConfigError: No preset has that name.
    """
    if preset is None:
        return None
    for entry in table():
        when = entry["when"]
        fits = (
            str(algorithm).lower() == when["algorithm"]
            and any(fnmatchcase(str(simulator), s) for s in when["simulators"])
        )  # fmt: skip
        if (preset == "auto" and fits) or preset == entry["name"]:
            return Document(entry["values"], {}, f"preset {entry['name']}")
    if preset == "auto":
        return None
    known = [e["name"] for e in table()]
    raise ConfigError(
        "no such preset", field="learner.preset", value=preset,
        allowed="auto, null, " + ", ".join(known), hint=nearest(preset, ["auto", *known]),
    )  # fmt: skip
