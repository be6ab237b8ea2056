"""Repeats what a store refuses, for as long as a short outage lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from drillyard.errors import DrillyardError

PERSIST_S = 60.0
"""How long a result waits for an unreachable store, in seconds."""
T = TypeVar("T")


def persist(action: Callable[[], T], within_s: float = PERSIST_S) -> T:
    """Call a function of the store, and repeat it while the store is unreachable.

    Args:
        action: What to call. It is idempotent: an answer may be lost after the effect.
        within_s: How long to repeat it.

    Raises:
        StoreUnavailable: It stayed unreachable.
    """
    import tenacity  # with asyncio, which few other parts of a worker need

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(within_s),
        wait=tenacity.wait_exponential(0.2, max=5.0) + tenacity.wait_random(0.0, 1.0),
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, DrillyardError) and e.retryable),
        reraise=True,
    )
    return retrying(action)
