"""What the page on the architecture says about the code is compared with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/contributing/architecture.md"
FOLDERS = ("src/drillyard", "backends/drillyard_backends", "flows/drillyard_flows", "tasks", ".")
DECIDES = ("driver", "leases", "worker")
"""Packages whose parts are step functions."""


def named_files() -> list[str]:
    return sorted(set(re.findall(r"`([\w./]+\.(?:py|md|txt|toml|yaml))`", PAGE.read_text())))


def test_each_file_that_the_page_names_exists():
    names = named_files()
    assert len(names) > 40
    known = [str(path) for folder in FOLDERS[:-1] for path in (ROOT / folder).rglob("*.py")]
    missing = [
        name
        for name in names
        if not any((ROOT / folder / name).is_file() for folder in FOLDERS)
        and not any(path.endswith(f"/{name}") for path in known)
    ]
    assert not missing


def stepping_classes() -> list[tuple[str, ast.ClassDef]]:
    """Classes with a method ``step(self, now)``, and the file of each."""
    return [
        (str(path.relative_to(ROOT)), node)
        for package in DECIDES
        for path in sorted((ROOT / "src/drillyard" / package).rglob("*.py"))
        if "def step(self, now" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(part, ast.FunctionDef)
            and part.name == "step"
            and [arg.arg for arg in part.args.args] == ["self", "now"]
            for part in node.body
        )
    ]


@pytest.mark.parametrize(
    ("file", "node"), stepping_classes(), ids=lambda part: getattr(part, "name", "")
)
def test_a_class_with_a_step_function_neither_sleeps_nor_starts_a_thread(file, node):
    calls = [ast.unparse(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)]
    broken = [call for call in calls if re.search(r"(^|\.)(sleep|Thread|Timer)$", call)]
    assert not broken, f"{file}: {node.name} calls {broken}"


def test_the_parts_of_the_driver_the_leases_and_the_worker_are_step_functions():
    names = {node.name for _, node in stepping_classes()}
    assert {"Watcher", "Teardown", "Setup", "Worker", "Reaper"} <= names, names
