"""Makes a folder importable, or the working folder too, for a while."""

from __future__ import annotations

import contextlib
import sys
import threading
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


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make the user's folder importable and current: a simulator's relative names mean it.

    Names that the user gave on the command line must be absolute before.
    """
    with importable(folder), current(folder):
        yield


@contextlib.contextmanager
def current(folder: Path) -> Iterator[None]:
    """Make a folder the working folder; in the main thread alone, because all threads share it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.chdir(folder):
        yield
