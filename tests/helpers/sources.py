"""The product's modules, each read once for all tests of a process that look at every one."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "backends", "flows", "tasks")


@cache
def product() -> dict[Path, list[ast.AST]]:
    """Each module and its nodes, the module first. All tests share them: change nothing in them.

    To walk a tree takes longer than to parse it.
    """
    gc.disable()  # it would look at the million nodes again and again
    try:
        files = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py"))]
        return {path: nodes(path.read_text(encoding="utf-8")) for path in files}
    finally:
        gc.freeze()
        gc.enable()


def nodes(code: str) -> list[ast.AST]:
    """All nodes of a module, the module first."""
    return list(ast.walk(ast.parse(code)))
