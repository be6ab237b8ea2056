"""The tree as a whole: its messages, its imports, its list of extended tests."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from drillyard.spec.algorithms.argument_table import TABLE
from tests.helpers.extended import listed
from tests.helpers.sources import ROOT, nodes, product

# -- Messages name no page by its file: a wheel does not contain the documentation ------------


PACKAGES = ("src", "backends/drillyard_backends", "flows", "tasks", "backends/drillyard_emulators")
PAGE = re.compile(r"docs/[\w/-]+\.md")


def messages(file: Path) -> list[str]:
    """Texts of a module that are no docstrings."""
    module = product()[file]
    alone = {id(n.value) for n in module if isinstance(n, ast.Expr)}
    return [
        node.value
        for node in module
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


# -- What drillyard knows of an argument of an algorithm is in one row of one file ------------


def test_only_the_table_lists_arguments_of_algorithms():
    table = Path("src/drillyard/spec/algorithms/argument_table.py")
    lists = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {', '.join(arguments)}"
        for file, module in product().items()
        if file.relative_to(ROOT) != table
        for node in module
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict)
        for items in (node.keys if isinstance(node, ast.Dict) else node.elts,)
        for arguments in (
            [i.value for i in items if isinstance(i, ast.Constant) and i.value in TABLE],
        )
        if len(arguments) > 2
    ]
    assert not lists


# -- No module imports itself through others at run time, imports inside functions included ---


def modules() -> dict[str, list[ast.AST]]:
    parts = {path.relative_to(ROOT).with_suffix("").parts[1:]: path for path in product()}
    return {".".join(n).removesuffix(".__init__"): product()[p] for n, p in parts.items()}


def run_time_imports(module: list[ast.AST]) -> list[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a module, without those for types only."""
    for_types = {
        id(node)
        for branch in module
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    imports = (node for node in module if isinstance(node, ast.Import | ast.ImportFrom))
    return [node for node in imports if id(node) not in for_types]


def imported(module: list[ast.AST], known: dict[str, list[ast.AST]]) -> set[str]:
    names: set[str] = set()
    for node in run_time_imports(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module and not node.level:
            longer = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module for name in longer.values()}
    return names & known.keys()


def graph(known: dict[str, list[ast.AST]]) -> dict[str, set[str]]:
    return {name: imported(module, known) - {name} for name, module in known.items()}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_each_other_in_one_direction_only():
    known = modules()
    assert not circle(graph(known)), "modules import each other in a circle"


def test_a_circle_through_an_import_in_a_function_is_found():
    known = {
        "one": nodes("import two\n"),
        "two": nodes("def late():\n    from one import x\n"),
    }
    assert set(circle(graph(known))) == set(known)


def test_an_import_for_types_alone_makes_no_circle():
    known = {
        "one": nodes("import two\n"),
        "two": nodes("if TYPE_CHECKING:\n    from one import x\n"),
    }
    assert not circle(graph(known))


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
