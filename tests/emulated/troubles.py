"""How an emulated cloud lets its callers down, below the verbs of its backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import requests

from drillyard.testing.backend_troubles import Trouble, breaking
from drillyard_emulators.http.handle import Emulator

STATUSES = (400, 401, 403, 404, 409)
"""What is not asked again for a minute: the tests of faults have the others."""


def no_requests(error: Exception) -> AbstractContextManager[None]:
    """Both clouds' libraries send their requests by this one."""
    return breaking(error, (requests.Session, "send"))


@contextlib.contextmanager
def answering(cloud: Emulator, match: str, status: int) -> Iterator[None]:
    """Every request that matches is answered with an error."""
    # The emulated Google's own word for 403 is that of a rate, which is asked again for a minute.
    reason = "forbidden" if status == 403 else None
    cloud.fault(match, status=status, reason=reason, message=f"trouble {status}")
    try:
        yield
    finally:
        cloud.clear_faults()


def refusals(cloud: Emulator, match: str, statuses: Sequence[int] = STATUSES) -> Iterator[Trouble]:
    """Each status as the answer to everything; 404 may mean that nothing is there."""
    for status in statuses:
        yield Trouble(f"HTTP {status}", answering(cloud, match, status), denies=status == 404)
