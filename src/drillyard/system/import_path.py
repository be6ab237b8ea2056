"""Makes a folder importable for a while."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put the user's folder at the end of the path, so that no installed module is shadowed.

    No byte code is written meanwhile, so that a check leaves no files.
    """
    text = str(folder)
    present, no_byte_code = text in sys.path, sys.dont_write_bytecode
    if not present:
        sys.path.append(text)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = no_byte_code
        if not present and text in sys.path:
            sys.path.remove(text)
