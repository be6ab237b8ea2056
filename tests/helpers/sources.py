"""The product's modules, each read once for all tests of a process that look at every one."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "backends", "flows", "tasks")


@cache
def product() -> dict[Path, ast.Module]:
    """Each module and its tree. All tests share them: change nothing in them."""
    gc.disable()  # it would look at the million nodes again and again
    try:
        files = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py"))]
        return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    finally:
        gc.freeze()
        gc.enable()
