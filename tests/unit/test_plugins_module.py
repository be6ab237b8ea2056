"""``drillyard.plugins`` is what templates, documents and examples import from, and it is light."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drillyard import plugins
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
PUBLIC = (
    "drillyard",
    "drillyard.plugins",
    "drillyard.errors",
    "drillyard.testing",
    # For reading what an experiment reached; see report.md and resume.md.
    "drillyard.mailbox",
    "drillyard.results",
    "drillyard.statistics",
    # For flows of their own: own-flow.md.
    "drillyard_flows",
    "drillyard_tasks",
    # A distribution of its own, for the tests of people who work with clouds.
    "drillyard_emulators.http.handle",
)
FOR_CONTRIBUTORS = ROOT / "docs" / "contributing"
HEAVY = ("torch", "prefect", "stable_baselines3", "mlflow", "optuna", "pandas", "google", "azure")
_IMPORT = re.compile(r"^\s*(?:from\s+(drillyard[\w.]*)\s+import|import\s+(drillyard[\w.]*))", re.M)
_NAMED = re.compile(r"`(drillyard(?:\.[a-z_]+)+)(?:\.[A-Z]\w*)?[`(]")


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every template, document and example."""
    for folder, pattern in (
        ("src/drillyard/authoring/scaffold/templates", "*.j2"),
        ("docs", "*.md"),
        ("experiments", "*.py"),
        (".", "README.md"),
    ):
        for path in sorted((ROOT / folder).rglob(pattern) if folder != "." else [ROOT / pattern]):
            if FOR_CONTRIBUTORS not in path.parents:
                yield str(path.relative_to(ROOT)), path.read_text()


def public(module: str) -> bool:
    """Whether others may import from a module; the suites and results are packages."""
    packages = ("drillyard.testing.", "drillyard.results.")
    return module in PUBLIC or module.startswith(packages)


def is_module(name: str) -> bool:
    """False for what only looks like one: a group, a tag, the name of an event."""
    place = ROOT / "src" / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


def imports(text: str) -> set[str]:
    return {first or second for first, second in _IMPORT.findall(text)}


@pytest.mark.parametrize("text", [pytest.param(text, id=file) for file, text in texts()])
def test_what_others_copy_imports_from_public_modules_alone(text):
    assert [module for module in sorted(imports(text)) if not public(module)] == []


def test_the_documents_name_no_inner_module():
    """`drillyard.a.b` in prose invites to import it; groups of entry points are named by words."""
    from drillyard.registry import KINDS

    known = {f"drillyard.{kind}" for kind in KINDS}
    named = {(file, name) for file, text in texts() for name in _NAMED.findall(text)}
    modules = {(file, name) for file, name in named if name not in known and is_module(name)}
    assert [(file, name) for file, name in sorted(modules) if not public(name)] == []


def test_the_templates_import_what_is_there():
    """Each name of ``from drillyard.plugins import`` is one that the module promises."""
    asked: set[str] = set()
    for _, text in texts():
        for names in re.findall(r"from drillyard\.plugins import (\([^)]*\)|[^\n]+)", text):
            asked |= set(re.findall(r"\w+", names))
    assert asked and asked <= set(plugins.__all__)


def test_it_promises_what_it_imports():
    tree = ast.parse(Path(plugins.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert imported == set(plugins.__all__)


def test_it_has_every_capability_and_every_group_that_plug_ins_write_classes_for():
    from drillyard.backend.capabilities import CAPABILITIES

    assert {one.__name__ for one in CAPABILITIES} <= set(plugins.__all__)
    assert {
        "Backend",
        "Learner",
        "Policy",
        "Workload",
        "Store",
        "ChooserKind",
        "HostProvider",
    } <= set(plugins.__all__)


@pytest.mark.heavy
def test_it_loads_nothing_heavy():
    code = (
        "import sys, drillyard.plugins\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = run_process([sys.executable, "-c", code])
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
