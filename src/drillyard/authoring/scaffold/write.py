"""Writes a plug-in's package: pyproject with entry point, module with marked parts, tests.

A simulator's package also has an experiment. For an existing simulator it writes only an
experiment and a test.
"""

from __future__ import annotations

import importlib.util
import json
import keyword
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drillyard.authoring.scaffold.looking import Look, Seen
from drillyard.errors import ConfigError, UserError
from drillyard.registry import names

if TYPE_CHECKING:
    from drillyard.documents.json_types import Json

KINDS = ("backend", "simulator", "learner", "workload")
MARK, END = "FILL IN", "END OF IT"
NAME_RULES = (
    "lower-case letters a-z, digits, '-' and '_'",
    "at most 40 characters",
    "begins with a letter and ends with a letter or digit",
    "no two '-' or '_' in a row",
    "not a Python keyword, a standard-library module or a name of drillyard",
    "not the name of an existing plug-in or package",
)
_NAME = re.compile(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,39}\Z")
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Scaffold:
    """The files that were written.

    Attributes:
        folder: Folder of the new package.
        files: All of its files.
        module: The file with the parts to fill in.
        parts: (line number, instruction) of each part.
    """

    folder: Path
    files: list[Path]
    module: Path
    parts: list[tuple[int, str]]


def check_name(kind: str, name: str) -> str:
    """Returns the package's import name.

    Args:
        kind: One of ``KINDS``.
        name: Name of the plug-in.

    Raises:
        ConfigError: The name breaks a rule; the error lists all rules.
    """
    package = name.replace("-", "_")
    problem = None
    if not _NAME.match(name):
        problem = "is not a valid plug-in name"
    elif keyword.iskeyword(package) or package in sys.stdlib_module_names:
        problem = "is a Python keyword or a standard-library module"
    elif package.partition("_")[0] == "drillyard" or package == "tests":
        problem = "is a name that drillyard or its tests use"
    elif name in names(f"{kind}s"):
        problem = f"is already the name of a registered {kind}"
    elif importlib.util.find_spec(package) is not None:
        problem = "is the name of an installed package"
    if problem:
        raise ConfigError(
            problem,
            file="command line",
            value=name,
            allowed="; ".join(NAME_RULES),
            hint=f"for example my-{kind}",
        )
    return package


def write(kind: str, name: str, parent: Path) -> Scaffold:
    """Writes the package ``parent/name``.

    Args:
        kind: ``backend``, ``simulator``, ``learner`` or ``workload``.
        name: Name that experiments use for it.
        parent: An existing folder.

    Raises:
        ConfigError: The name breaks a rule.
        UserError: The folder already exists; nothing is overwritten.
    """
    package = check_name(kind, name)
    folder = parent / name
    cls = _class_name(package)
    values: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "package": package,
        "mark": MARK,
        "end": END,
        "cls": cls,
        "place": "../",
    }
    module = folder / package / f"{kind}.py"
    templates = {
        folder / "pyproject.toml": "pyproject.toml.j2",
        folder / "README.md": "README.md.j2",
        folder / package / "__init__.py": "init.py.j2",
        module: f"{kind}.py.j2",
        folder / "tests" / f"test_{package}.py": f"test_{kind}.py.j2",
    }
    if kind == "simulator":
        templates[folder / "README.md"] = "README_simulator.md.j2"
        templates[folder / f"{name}.yaml"] = "experiment.yaml.j2"
        values["look"] = _cart(f"{package}.simulator:{cls}")
    texts = _rendered(templates, values)
    try:
        folder.mkdir()
    except FileExistsError:
        raise UserError(
            f"{folder} already exists; nothing was written", hint="choose another name or --in"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder} cannot be created: {error.strerror}", hint="choose another folder with --in"
        ) from error
    try:
        _create(texts)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # mkdir above created it
        raise
    return Scaffold(folder, list(texts), module, parts(texts[module]))


def around(name: str, description: Look, folder: Path) -> Scaffold:
    """Writes an experiment and a test for an existing simulator, which is not changed.

    Args:
        name: Name of the experiment.
        description: The simulator's names and ranges.
        folder: Folder of the simulator's file.

    Raises:
        ConfigError: The name breaks a rule.
        UserError: One of the files already exists; nothing is overwritten.
    """
    package = check_name("simulator", name)
    test = folder / f"test_{package}.py"
    experiment = folder / f"{name}.yaml"
    values = {"name": name, "cls": _class_name(package), "place": "", "look": description}
    texts = _rendered({experiment: "experiment.yaml.j2", test: "test_simulator.py.j2"}, values)
    return _written(folder, experiment, texts)


def write_experiment(experiment: Path, template: str, name: str, description: object) -> Scaffold:
    """Writes one experiment, whose guesses are marked.

    Args:
        experiment: The file.
        template: A file of ``templates``.
        name: Name of the experiment.
        description: ``look`` of the template.

    Raises:
        UserError: The file already exists; nothing is overwritten.
    """
    texts = _rendered({experiment: template}, {"name": name, "look": description})
    return _written(experiment.parent, experiment, texts)


def _written(folder: Path, experiment: Path, texts: Mapping[Path, str]) -> Scaffold:
    existing = [path for path in texts if path.exists()]
    if existing:
        raise UserError(
            f"{existing[0]} already exists; nothing was written", hint="choose another name"
        )
    _create(texts)
    return Scaffold(
        folder,
        list(texts),
        experiment,
        [
            (number, f"{line.partition(':')[0].strip()}: {guess.strip()}")
            for number, line in enumerate(texts[experiment].splitlines(), 1)
            if (guess := line.partition("# guess:")[2] or line.partition(", guess:")[2])
        ],
    )


def _rendered(files: Mapping[Path, str], values: dict[str, Any]) -> dict[Path, str]:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"key": _key, "number": "{:.6g}".format, "drawn": _drawn}
    if isinstance(values.get("look"), Look):
        counters = [_key(state.name) for state in values["look"].states if state.counts]
        values = {**values, "counters": ", ".join(counters)}
    return {
        path: templates.get_template(template).render(values) for path, template in files.items()
    }


def _create(texts: Mapping[Path, str]) -> None:
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


def _key(name: str) -> str:
    """Returns a name as a YAML key, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else json.dumps(name)


def _drawn(value: Json) -> str:
    """Returns a first lesson around a simulator's default."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item:g}" for key, item in value.items()) + "}"
    if isinstance(value, float) and value:
        low, high = sorted((0.8 * value, 1.2 * value))
        return f"{{min: {low:.6g}, max: {high:.6g}}}"
    return json.dumps(value)  # an integer may be a category, and 0 has no scale


def _class_name(package: str) -> str:
    return "".join(part.capitalize() for part in package.split("_"))


def _cart(path: str) -> Look:
    """Returns the simulator of the template."""
    ranges = {"position": (-5.0, 5.0), "speed": (-2.0, 2.0), "wanted": (-3.0, 3.0)}
    states = [Seen(name, *two, two) for name, two in ranges.items()]
    time = Seen("time", 0.0, 100.0, (0.0, 100.0), counts=True)
    lesson = {"position": {"min": -1, "max": 1}, "wanted": {"min": -2, "max": 2}}
    return Look(path, [*states, time], ["push"], lesson)


def parts(text: str) -> list[tuple[int, str]]:
    """Returns (line, instruction) of every part of a module to fill in."""
    return [
        (number, line.split(MARK, 1)[1].strip(" :()0123456789"))
        for number, line in enumerate(text.splitlines(), 1)
        if f"# {MARK}" in line
    ]
