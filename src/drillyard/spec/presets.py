"""Tuned hyperparameters by algorithm and simulator, and studies: ``presets.yaml`` beside this."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

from drillyard.documents.document import Document
from drillyard.documents.files import read_document
from drillyard.documents.json_types import as_list, as_object
from drillyard.errors import ConfigError
from drillyard.registry import names, nearest

_FILE = Path(__file__).with_name("presets.yaml")


@cache
def table() -> tuple[dict[str, Any], ...]:
    """Every preset: ``name``, ``when`` (algorithm, simulator), ``values``, ``measured``."""
    presets = as_list(read_document(_FILE, _FILE.name).mapping["presets"])
    return tuple(as_object(preset) for preset in presets)


@cache
def studies() -> tuple[dict[str, Any], ...]:
    """Every ready-made study: ``name``, ``algorithm``, ``simulators``, ``about``, ``file``."""
    studies = as_list(read_document(_FILE, _FILE.name).mapping["studies"])
    return tuple(as_object(study) for study in studies)


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
        fits = str(algorithm).lower() == when["algorithm"] and any(
            fnmatchcase(str(simulator), s) for s in when["simulators"]
        )
        if (preset == "auto" and fits) or preset == entry["name"]:
            return Document(entry["values"], {}, f"preset {entry['name']}")
    if preset == "auto":
        return None
    known = [e["name"] for e in table()]
    raise ConfigError(
        "no such preset",
        field="learner.preset",
        value=preset,
        allowed="auto, null, " + ", ".join(known),
        hint=nearest(preset, ["auto", *known]),
    )


_BUDGET = re.compile(r"after ([\d,]+) steps")


def steps(entry: dict[str, Any]) -> int:
    """The budget with which a preset was measured: that of an experiment that is nothing else.

    Args:
        entry: Of the table.
    """
    found = _BUDGET.search(entry["measured"])
    assert found is not None, entry["name"]  # a test reads them all
    return int(found[1].replace(",", ""))


def experiment_file(name: str) -> Path | None:
    """A preset or a study as a file of its own: ``drillyard run cstr/ppo``, also from a form.

    Args:
        name: Of a preset or a study of the table.

    Returns:
        The file, in drillyard's own folder, alone there; None when nothing has that name.
    """
    from drillyard.system.home import local_home

    text = _text(name)
    if text is None:
        return None
    own = _own(name)
    path = local_home() / "presets" / own / f"{own}.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return path


def _own(name: str) -> str:
    return name.replace("/", "-")


def _text(name: str) -> str | None:
    for study in studies():
        if study["name"] == name:
            return str(study["file"])
    return next((_experiment(entry) for entry in table() if entry["name"] == name), None)


def _experiment(entry: dict[str, Any]) -> str:
    return dedent(f"""\
        # The preset {entry["name"]}: {entry["measured"]}
        schema: 1
        name: {_own(entry["name"])}
        simulator: {{id: {_simulator(entry)}}}
        learner: {{algorithm: {entry["when"]["algorithm"]}, preset: {entry["name"]}}}
        train: {{steps: {steps(entry)}}}
        baselines: [hold, random]
        seeds: [1]
        """)


def _simulator(entry: dict[str, Any]) -> str:
    """The one to take of several: a name of our own, else the newest version."""
    simulators: list[str] = entry["when"]["simulators"]
    own = [s for s in simulators if s in names("simulators")]
    return (own or [s for s in simulators if "*" not in s][-1:] or simulators)[0]
