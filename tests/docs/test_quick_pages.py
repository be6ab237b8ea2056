"""The pages for a quick look are true: symptoms, the cheat sheet, the list of extras."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from drillyard import errors
from drillyard.cli.main import build
from drillyard.errors import DrillyardError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text()
ROWS = re.findall(r"^\| (`.+) \| (\w+) \| .+ \|$", PAGE, re.M)
GROUPS = {"UserError", "ExperimentFailed", "InfrastructureError", "DrillyardError"}
"""Errors that only group others: no code raises them where another one fits."""


def below(error: type[DrillyardError]) -> set[str]:
    return {error.__name__}.union(*(below(sub) for sub in error.__subclasses__()))


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Each text in the code; what is filled in is `…`."""
    texts = []
    for folder in ("src", "backends/drillyard_backends", "flows", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                    texts.append("".join(map(str, parts)))
    return texts


def test_every_error_has_a_row():
    ours = {name for name in below(DrillyardError) if hasattr(errors, name)} - GROUPS
    assert {error for _, error in ROWS} == ours


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_the_words_of_a_symptom_are_said_by_the_code(row, messages):
    for symptom in re.findall(r"`([^`]+)`", row[0]):
        words = [re.escape(part.strip(" '")) for part in symptom.split("…")]
        pattern = re.compile(".*".join(filter(None, words)), re.DOTALL)
        assert any(pattern.search(text) for text in messages), symptom


def commands() -> list[str]:
    text = (ROOT / "docs/how-to/cheat-sheet.md").read_text()
    return sorted(set(re.findall(r"`(drillyard [^`]+)`", text)))


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_cheat_sheet_exists_with_its_options(command):
    words = shlex.split(command)[1:]
    known: Any = typer.main.get_command(build()[0])
    while hasattr(known, "get_command"):
        known = known.get_command(None, words.pop(0)) if words else known
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
    needed = [p.opts for p in known.params if p.required and p.opts[0].startswith("-")]
    assert all({*names} & {*words} for names in needed), f"needs {needed}"


def test_the_page_of_extras_has_each_of_them():
    page = (ROOT / "docs/reference/extras.md").read_text()
    listed = re.findall(r"^\| `([\w-]+)` \|", page, re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(listed) == sorted(project["optional-dependencies"])
    (whole,) = (each for each in project["optional-dependencies"]["all"])
    parts = set(whole.partition("[")[2].rstrip("]").split(","))
    assert (
        set(re.findall(r"`([\w-]+)`", page.partition("| `all` |")[2].partition("\n")[0])) == parts
    )
