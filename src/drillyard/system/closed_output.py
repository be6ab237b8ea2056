"""What to do once the reader of an output is gone, as with ``drillyard run … | head``.

Work does not end for it, and keeps the exit code of its result.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import typer

from drillyard.system.operating_system import is_unread


def discard() -> bool:
    """Drops what is still written to standard output or standard error, if nothing can read it.

    The way is that of Python's documentation (``signal``, note on SIGPIPE). A second write would
    tell less: what an unbuffered stream could not write is forgotten.

    Returns:
        Whether one of them was closed. If not, another connection broke.
    """
    closed = [s for s in (sys.__stdout__, sys.__stderr__) if s is not None and is_unread(s)]
    for stream in closed:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    return bool(closed)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Shows as much as is read; a connection to something else that breaks is still an error."""
    try:
        yield
    except BrokenPipeError:
        if not discard():
            raise


def tell(text: str, *, err: bool = False) -> None:
    """Prints a line between two steps of work, which goes on without a reader.

    Args:
        text: The line.
        err: Print it on standard error.
    """
    with ignored():
        typer.echo(text, err=err)
