"""Tuned hyperparameters by algorithm and simulator, and studies, from ``presets.json``.

A preset lies under the file: whatever the file says wins. ``experiment`` is what only ``drillyard
run NAME`` says besides. ``measured`` is what that run reached, one mean return a seed; null: not
measured. ``python -m tests.benchmarks.presets NAME`` measures again. They were measured until 24
November 2026: experiments that begin later have other random numbers (``simulators.streams``, 4)
and other checkpoints, so that a repetition reaches other numbers within the same spread.

Arguments of pendulum/ppo, acrobot, mountaincar, mountaincarcontinuous, lunarlander, bipedalwalker,
carracing and those of MuJoCo: the tuned lists of RL Baselines3 Zoo
(github.com/DLR-RM/rl-baselines3-zoo, hyperparams/), for versions v2 and v3 of the MuJoCo
simulators. The budget of acrobot is shorter, and pendulum/ppo explores without ``use_sde``, so
that ``engine: jax`` can take it. The list has nothing for ant, pusher and swimmer but
``normalize`` and gamma, and nothing for toy-text.
"""

from __future__ import annotations

import difflib
import json
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from drillyard.documents.document import Document
from drillyard.documents.json_types import JsonObject, as_integer, as_object
from drillyard.errors import ConfigError
from drillyard.registry import names
from drillyard.system.files import write_file

_FILE = Path(__file__).with_name("presets.json")
"""JSON, because most commands read it: as YAML it took a third of ``drillyard explain``."""
SEEDS = (1, 2, 3)
"""With these seeds a preset is measured, and runs by its name, where it does not say others."""
EPISODES = 50
"""Episodes of the final evaluation of each seed, where a preset does not say another number."""
LONG = 1_000_000
"""Steps from which on three seeds take too long on the machine of the other measurements."""


class When(TypedDict):
    """The experiments that a preset is for."""

    algorithm: str
    simulators: list[str]


class Measured(TypedDict):
    """What the experiment of a preset reached."""

    means: list[float]
    """Mean return of each seed."""
    beside: JsonObject
    """Mean returns of policies that do not learn."""


class Preset(TypedDict):
    """A preset of the table."""

    name: str
    when: When
    steps: int
    """The budget with which it was measured, or else is published."""
    values: JsonObject
    measured: Measured | None
    """None: not measured."""
    experiment: JsonObject
    """What its own experiment says besides."""


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
    entries: Any = ({"experiment": {}, **entry} for entry in _entries("presets"))
    return tuple(entries)


@cache
def studies() -> tuple[StudyPreset, ...]:
    """Every ready-made study: ``name``, ``algorithm``, ``simulators``, ``about``, ``file``."""
    entries: Any = ({**e, "file": "\n".join([*e["file"], ""])} for e in _entries("studies"))
    return tuple(entries)


def _entries(section: str) -> Any:
    # A file of drillyard itself: tests read each of its entries.
    return json.loads(_FILE.read_text(encoding="utf-8"))[section]


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
                train = {**as_object(values.get("train", {})), "steps": entry["steps"]}
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
        known=["auto", *known],
    )


def episodes(entry: Preset) -> int:
    """Returns the episodes of the final evaluation of each seed.

    Args:
        entry: Entry of the table.
    """
    evaluate = as_object(entry["experiment"].get("evaluate"))
    return as_integer(evaluate.get("episodes")) or EPISODES


def statement(entry: Preset) -> str:
    """Returns what is known about a preset, as a sentence.

    Args:
        entry: Entry of the table.
    """
    from drillyard.statistics.intervals import mean_interval

    measured, steps = entry["measured"], f"{entry['steps']:,} steps"
    engine = as_object(entry["values"].get("learner")).get("engine")
    steps += f" with engine: {engine}" if engine else ""
    if measured is None:
        long = entry["steps"] >= LONG
        why = "not measured: too long to measure here" if long else "not measured yet"
        return f"{why}. Its budget is {steps}"
    means = measured["means"]
    ends = mean_interval(means)
    interval = f"95 % interval {ends[0]:.4g} to {ends[1]:.4g}" if ends else "no interval"
    each = ", ".join(f"{mean:.4g}" for mean in means)
    beside = "".join(f"; {policy} {mean}" for policy, mean in measured["beside"].items())
    return (
        f"mean return {sum(means) / len(means):.4g} ({interval}) after {steps} over "
        f"{len(means)} seeds ({each}; {episodes(entry)} episodes each{beside})"
    )


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
    folder = _experiment_name(name)
    path = local_home() / "presets" / folder / f"{folder}.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_file(path, text)
    return path


def no_near(name: str) -> str:
    """Returns the name of a file, unless it is rather the mistyped name of a preset.

    Args:
        name: What is neither a file nor a preset.

    Raises:
        ConfigError: It has no suffix, and is the first part of a preset's name, or is in no folder
            and similar to one.
    """
    known = [entry["name"] for entry in (*table(), *studies())]
    close = [k for k in known if k.startswith(f"{name.lower()}/")]
    if not close and not Path(name).parent.is_dir():
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not close or Path(name).suffix:
        return name
    raise ConfigError(
        "there is no such file, and no such preset",
        file=name,
        allowed="an experiment file, or a name of `drillyard list presets`",
        hint="did you mean " + " or ".join(map(repr, close)) + "?",
    )


def _experiment_name(name: str) -> str:
    return name.replace("/", "-")


def _text(name: str) -> str | None:
    texts = {study["name"]: study["file"] for study in studies()}
    return texts.get(name) or next(
        (_experiment(entry) for entry in table() if entry["name"] == name), None
    )


def _experiment(entry: Preset) -> str:
    """What `drillyard list presets` states is what this file reached."""
    more = entry["experiment"]
    tree: JsonObject = {
        "schema": 1,
        "name": _experiment_name(entry["name"]),
        "simulator": {"id": _simulator(entry), **as_object(more.get("simulator", {}))},
        "learner": {"algorithm": entry["when"]["algorithm"], "preset": entry["name"]},
        "train": {"steps": entry["steps"]},
        "evaluate": {"episodes": EPISODES, **as_object(more.get("evaluate", {}))},
        "baselines": more.get("baselines", ["hold", "random"]),
        "seeds": more.get("seeds", list(SEEDS)),
        "resources": {"threads": 1, "device": "cpu"},
    }
    head = f"# The preset {entry['name']}, as it was measured. Fewer seeds: --seeds 1\n"
    return head + "".join(f"{key}: {json.dumps(value)}\n" for key, value in tree.items())


def _simulator(entry: Preset) -> str:
    """Returns the simulator to use: a built-in one, or else the newest version."""
    simulators = entry["when"]["simulators"]
    built_in = [s for s in simulators if s in names("simulators")]
    return (built_in or [s for s in simulators if "*" not in s][-1:] or simulators)[0]
