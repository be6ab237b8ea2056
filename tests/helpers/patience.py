"""How long tests wait: a limit ends a hang, and says nothing about speed.

A machine may be many times slower than the one on which a test was written, so nothing here is
tight, and no test needs a number of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 600.0
"""For one thing that must happen, or one program that must end."""

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    timeout_s: float = PATIENCE_S,
    what: str = "the condition",
    every_s: float = 0.02,
) -> T:
    """The first value of a condition that is true.

    Args:
        condition: What is looked at.
        timeout_s: How long at most.
        what: In words.
        every_s: Between two looks; longer where a look costs those time that are waited for.

    Raises:
        AssertionError: There was none within the time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(every_s)
    return found
