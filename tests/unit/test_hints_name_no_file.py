"""Messages name no page by its file: a wheel does not contain the documentation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

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
