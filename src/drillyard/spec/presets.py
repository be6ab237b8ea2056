"""Tuned hyperparameters by algorithm and simulator, and studies, from ``presets.yaml``."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import TypedDict

from drillyard.documents.document import Document
from drillyard.documents.files import read_document
from drillyard.documents.json_types import Json, JsonObject, as_list, as_object
from drillyard.errors import ConfigError
from drillyard.registry import names, nearest

_FILE = Path(__file__).with_name("presets.yaml")


class When(TypedDict):
    """The experiments that a preset is for."""

    algorithm: str
    simulators: list[str]


class Preset(TypedDict):
    """A preset of the table."""

    name: str
    when: When
    values: JsonObject
    measured: str


class StudyPreset(TypedDict):
    """A ready-made study of the table."""

    name: str
    algorithm: str
    simulators: list[str]
    about: str
    file: str


@cache
def table() -> tuple[Preset, ...]:
    """Every preset: ``name``, ``when`` (algorithm, simulator), ``values``, ``measured``."""
    return tuple(_preset(as_object(entry)) for entry in _entries("presets"))


@cache
def studies() -> tuple[StudyPreset, ...]:
    """Every ready-made study: ``name``, ``algorithm``, ``simulators``, ``about``, ``file``."""
    return tuple(_study(as_object(entry)) for entry in _entries("studies"))


def _entries(section: str) -> list[Json]:
    return as_list(read_document(_FILE, _FILE.name).mapping[section])


def _preset(entry: JsonObject) -> Preset:
    when = as_object(entry["when"])
    return Preset(
        name=str(entry["name"]),
        when=When(
            algorithm=str(when["algorithm"]),
            simulators=[str(simulator) for simulator in as_list(when["simulators"])],
        ),
        values=as_object(entry["values"]),
        measured=str(entry["measured"]),
    )


def _study(entry: JsonObject) -> StudyPreset:
    return StudyPreset(
        name=str(entry["name"]),
        algorithm=str(entry["algorithm"]),
        simulators=[str(simulator) for simulator in as_list(entry["simulators"])],
        about=str(entry["about"]),
        file=str(entry["file"]),
    )


def find(
    preset: str | None, algorithm: object, simulator: object, *, budget: bool = False
) -> Document | None:
    """Returns the layer of a preset, which goes below the file's values.

    Args:
        preset: ``auto``, a preset's name, or None for none.
        algorithm: Name of the learner.
        simulator: Id of the simulator.
        budget: True where the file does not say how long to train: the preset then says it too.

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
            values = entry["values"]
            if budget:
                train = {**as_object(values.get("train", {})), "steps": steps(entry)}
                values = {**values, "train": train}
            return Document(values, {}, f"preset {entry['name']}")
    if preset == "auto":
        return None
    known = [e["name"] for e in table()]
    raise ConfigError(
        "there is no such preset",
        field="learner.preset",
        value=preset,
        allowed="auto, null, " + ", ".join(known),
        hint=nearest(preset, ["auto", *known]),
    )


_BUDGET = re.compile(r"after ([\d,]+) steps")


def steps(entry: Preset) -> int:
    """Returns the budget with which a preset was measured.

    Args:
        entry: Entry of the table.
    """
    found = _BUDGET.search(entry["measured"])
    assert found is not None, entry["name"]  # a test reads them all
    return int(found[1].replace(",", ""))


def experiment_file(name: str) -> Path | None:
    """Writes a preset or a study as a file, for ``drillyard run cstr/ppo``.

    Args:
        name: Name of a preset or a study of the table.

    Returns:
        The file, alone in a folder of drillyard; None if there is no such name.
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


def _experiment(entry: Preset) -> str:
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


def _simulator(entry: Preset) -> str:
    """Returns the simulator to use: a built-in one, or else the newest version."""
    simulators = entry["when"]["simulators"]
    own = [s for s in simulators if s in names("simulators")]
    return (own or [s for s in simulators if "*" not in s][-1:] or simulators)[0]
