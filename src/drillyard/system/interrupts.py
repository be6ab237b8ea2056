"""Signals that end a command in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupted_by(
    number: signal.Signals, first: Callable[[], None] | None = None
) -> Iterator[None]:
    """Raises ``KeyboardInterrupt`` in the main thread when a signal arrives in the block.

    The earlier handler is back after the block.

    Args:
        number: The signal.
        first: Called before. It works also where a library swallows the exception, for example in
            a destructor.
    """

    def received(*_: object) -> None:
        if first is not None:
            first()
        raise KeyboardInterrupt

    before = signal.signal(number, received)
    try:
        yield
    finally:
        signal.signal(number, before)
