"""Writes a plug-in's package: pyproject with entry point, module with marked parts, tests.

Of a simulator also an experiment; or that and a test around one that is there.
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
from typing import Any

from drillyard.authoring.scaffold.looking import Look, Seen
from drillyard.errors import ConfigError, UserError
from drillyard.registry import names

KINDS = ("backend", "simulator", "learner", "workload")
MARK, END = "FILL IN", "END OF IT"
NAME_RULES = (
    "small letters a-z, digits, '-' and '_'",
    "at most 40 characters",
    "begins with a letter, and ends with a letter or digit",
    "no '-' or '_' beside another",
    "no word of Python, module of Python's library or name of drillyard's",
    "not the name of a plug-in or package that is there already",
)
_NAME = re.compile(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,39}\Z")
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Scaffold:
    """What was written.

    Attributes:
        folder: The new package's folder.
        files: Every file of it.
        module: The file with the parts to fill in.
        parts: (line number, what to do) of each.
    """

    folder: Path
    files: list[Path]
    module: Path
    parts: list[tuple[int, str]]


def check_name(kind: str, name: str) -> str:
    """The package's import name.

    Args:
        kind: One of ``KINDS``.
        name: Of the plug-in.

    Raises:
        ConfigError: It breaks a rule; with all rules.
    """
    package = name.replace("-", "_")
    problem = None
    if not _NAME.match(name):
        problem = "is no name for a plug-in"
    elif keyword.iskeyword(package) or package in sys.stdlib_module_names:
        problem = "is a word of Python or of its library"
    elif package.partition("_")[0] == "drillyard" or package == "tests":
        problem = "is a name that drillyard or its tests use"
    elif name in names(f"{kind}s"):
        problem = f"is a {kind} that is registered already"
    elif importlib.util.find_spec(package) is not None:
        problem = "is the name of a package that is installed here"
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
    """Write the package ``parent/name``.

    Args:
        kind: ``backend``, ``simulator``, ``learner`` or ``workload``.
        name: The name under which experiments will find it.
        parent: A folder that is there.

    Raises:
        ConfigError: The name breaks a rule.
        UserError: Something of that name is there already; nothing is ever overwritten.
    """
    package = check_name(kind, name)
    folder = parent / name
    cls = _class_name(package)
    words: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "package": package,
        "mark": MARK,
        "end": END,
        "cls": cls,
        "place": "../",
    }
    module = folder / package / f"{kind}.py"
    wanted = {
        folder / "pyproject.toml": "pyproject.toml.j2",
        folder / "README.md": "README.md.j2",
        folder / package / "__init__.py": "init.py.j2",
        module: f"{kind}.py.j2",
        folder / "tests" / f"test_{package}.py": f"test_{kind}.py.j2",
    }
    if kind == "simulator":
        wanted[folder / "README.md"] = "README_simulator.md.j2"
        wanted[folder / f"{name}.yaml"] = "experiment.yaml.j2"
        words["look"] = _cart(f"{package}.simulator:{cls}")
    texts = _rendered(wanted, words)
    try:
        folder.mkdir()
    except FileExistsError:
        raise UserError(
            f"{folder} is there already; nothing was written", hint="choose another name or --in"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made: {error.strerror}", hint="choose another folder with --in"
        ) from error
    try:
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # it is ours: mkdir made it
        raise
    return Scaffold(folder, list(texts), module, parts(texts[module]))


def around(name: str, found: Look, folder: Path) -> Scaffold:
    """Write an experiment and a test beside a simulator that is there; it stays as it is.

    Args:
        name: Of the experiment.
        found: What trying the simulator showed.
        folder: Where its file lies.

    Raises:
        ConfigError: The name breaks a rule.
        UserError: One of the files is there already; nothing is ever overwritten.
    """
    package = check_name("simulator", name)
    test = folder / f"test_{package}.py"
    experiment = folder / f"{name}.yaml"
    words = {"name": name, "cls": _class_name(package), "place": "", "look": found}
    texts = _rendered({experiment: "experiment.yaml.j2", test: "test_simulator.py.j2"}, words)
    there = [path for path in texts if path.exists()]
    if there:
        raise UserError(
            f"{there[0]} is there already; nothing was written", hint="choose another name"
        )
    for path, text in texts.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return Scaffold(
        folder,
        list(texts),
        experiment,
        [
            (number, f"{line.partition(':')[0].strip()}: {guess.strip()}")
            for number, line in enumerate(texts[experiment].splitlines(), 1)
            if (guess := line.partition("# guess:")[2])
        ],
    )


def _rendered(wanted: Mapping[Path, str], words: dict[str, Any]) -> dict[Path, str]:
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
    if "look" in words:
        counters = [_key(state.name) for state in words["look"].states if state.counts]
        words = {**words, "counters": ", ".join(counters)}
    return {
        path: templates.get_template(template).render(words) for path, template in wanted.items()
    }


def _key(name: str) -> str:
    """A name as a key of YAML; quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else json.dumps(name)


def _drawn(value: Any) -> str:
    """A first lesson around a simulator's own value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item:g}" for key, item in value.items()) + "}"
    if isinstance(value, float) and value:
        low, high = sorted((0.8 * value, 1.2 * value))
        return f"{{min: {low:.6g}, max: {high:.6g}}}"
    return json.dumps(value)  # an integer may be a kind, and 0 has no size


def _class_name(package: str) -> str:
    return "".join(part.capitalize() for part in package.split("_"))


def _cart(path: str) -> Look:
    """The world of the template."""
    ranges = {"position": (-5.0, 5.0), "speed": (-2.0, 2.0), "wanted": (-3.0, 3.0)}
    states = [Seen(name, *two, two) for name, two in ranges.items()]
    time = Seen("time", 0.0, 100.0, (0.0, 100.0), counts=True)
    lesson = {"position": {"min": -1, "max": 1}, "wanted": {"min": -2, "max": 2}}
    return Look(path, [*states, time], ["push"], lesson)


def parts(text: str) -> list[tuple[int, str]]:
    """(line, what to do) of every part of a module that is to be filled in."""
    return [
        (number, line.split(MARK, 1)[1].strip(" :()0123456789"))
        for number, line in enumerate(text.splitlines(), 1)
        if f"# {MARK}" in line
    ]
