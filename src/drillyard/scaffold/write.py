"""Writes a plug-in's package: pyproject with entry point, module with marked parts, tests."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

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
            problem, file="command line", value=name, allowed="; ".join(NAME_RULES),
            hint=f"for example my-{kind}",
        )  # fmt: skip
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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    package = check_name(kind, name)
    folder = parent / name
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=False,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    words = {
        "kind": kind, "name": name, "package": package, "mark": MARK, "end": END,
        "cls": "".join(part.capitalize() for part in package.split("_")),
    }  # fmt: skip
    module = folder / package / f"{kind}.py"
    wanted = {
        folder / "pyproject.toml": "pyproject.toml.j2",
        folder / "README.md": "README.md.j2",
        folder / package / "__init__.py": "init.py.j2",
        module: f"{kind}.py.j2",
        folder / "tests" / f"test_{package}.py": f"test_{kind}.py.j2",
    }
    texts = {path: templates.get_template(template).render(words)
             for path, template in wanted.items()}  # fmt: skip
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


def parts(text: str) -> list[tuple[int, str]]:
    """(line, what to do) of every part of a module that is to be filled in."""
    return [
        (number, line.split(MARK, 1)[1].strip(" :()0123456789"))
        for number, line in enumerate(text.splitlines(), 1)
        if f"# {MARK}" in line
    ]
