"""The tree as a whole: its messages, its imports, its list of extended tests."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.helpers.extended import listed

# -- Messages name no page by its file: a wheel does not contain the documentation ------------


ROOT = Path(__file__).parents[2]
PACKAGES = ("src", "backends/drillyard_backends", "flows", "tasks", "backends/drillyard_emulators")
PAGE = re.compile(r"docs/[\w/-]+\.md")


def messages(file: Path) -> list[str]:
    """Texts of a module that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def test_no_message_sends_the_user_to_a_file_of_the_checkout():
    found = [
        f"{file.relative_to(ROOT)}: {text}"
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        if "docs/" in file.read_text(encoding="utf-8")
        for text in messages(file)
        if PAGE.search(text)
    ]
    assert not found


# -- No module imports itself through others at run time, imports inside functions included ---


ROOTS = ("src", "backends", "flows", "tasks")


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT / root).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for root in ROOTS
        for path in (ROOT / root).rglob("*.py")
    }


def run_time_imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a module, without those for types only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    names: set[str] = set()
    for node in run_time_imports(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module and not node.level:
            longer = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module for name in longer.values()}
    return names & known.keys()


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_each_other_in_one_direction_only():
    known = modules()
    graph = {name: imported(path, known) - {name} for name, path in known.items()}
    assert not circle(graph), "modules import each other in a circle"


def test_a_circle_through_an_import_in_a_function_is_found(tmp_path):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("import two\n")
    two.write_text("def late():\n    from one import x\n")
    known = {"one": one, "two": two}
    assert set(circle({name: imported(path, known) for name, path in known.items()})) == set(known)


# -- The list of the extended tests names tests that exist ------------------------------------


def test_each_entry_names_a_test_that_exists_and_is_listed_once():
    entries = listed()
    assert sorted(set(entries)) == sorted(entries)
    gone = []
    for entry in entries:
        file, *_, name = entry.partition("[")[0].split("::")
        path = ROOT / file
        if not path.exists() or not re.search(rf"def {name}\(", path.read_text()):
            gone.append(entry)
    # A test that a suite inherits is named in drillyard.testing.
    suites = "".join(p.read_text() for p in (ROOT / "src/drillyard/testing").rglob("*.py"))
    assert not [e for e in gone if f"def {e.partition('[')[0].rpartition('::')[2]}(" not in suites]
