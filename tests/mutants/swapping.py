"""Loads one module of the product from another text, in this process.

Nothing is written beside the module: the text is compiled anew in each process, and no cache of
byte code is read. The session of a mutant writes a copy of this file, with a call of ``swap``,
into the folder from which all children import the rules of the tests.
"""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from typing import Any


def swap(path: str, text: str) -> None:
    """Read a module from another file from now on.

    Args:
        path: The module's own file.
        text: The file that is compiled instead.
    """
    real = SourceFileLoader.get_code

    def get_code(self: Any, name: str) -> Any:
        if self.path != path:
            return real(self, name)
        with open(text, encoding="utf-8") as file:
            return compile(file.read(), path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
