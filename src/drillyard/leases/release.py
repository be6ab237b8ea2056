"""Ending a lease until its provider lists nothing: the one way for teardown and reaper.

A provider says "done" before it is, forgets to delete, and lists late. So the end is asked for
again and again, and believed only when the listing was empty for twice the provider's lag.
"""

from __future__ import annotations

import itertools
import logging
import threading

from drillyard.backend import Backend, Lease, listing_lag_s
from drillyard.errors import InfrastructureError, TeardownUnconfirmed, UserError
from drillyard.system.clock import SYSTEM, Clock

_POLL_S = 0.1
_ASK_AGAIN_S = 5.0
_LONGEST_POLL_S = 5.0
log = logging.getLogger(__name__)


def vacate(backend: Backend, lease: Lease, *, timeout_s: float, clock: Clock = SYSTEM) -> None:
    """End a lease, confirmed by the provider's own listing.

    Args:
        backend: Of the lease.
        lease: Which; already gone is success.
        timeout_s: How long to wait for the listing to become empty; the time that it must stay
            so comes on top.
        clock: For waiting.

    Raises:
        TeardownUnconfirmed: Something of it is listed still, or nobody could be asked.
    """
    settle_s = 2.0 * listing_lag_s(backend)
    again_s = max(_ASK_AGAIN_S, settle_s / 2.0)
    pause_s = min(max(_POLL_S, settle_s / 8.0), _LONGEST_POLL_S)
    deadline = clock.monotonic() + timeout_s + settle_s
    error: InfrastructureError | None = None
    never = threading.Event()
    absent_since: float | None = None
    asked_at = float("-inf")
    for _ in itertools.count():
        now = clock.monotonic()
        try:
            # Also once while nothing is listed: what was just created may not be listed yet.
            if asked_at == float("-inf") or (absent_since is None and now - asked_at >= again_s):
                backend.teardown(lease)
                asked_at = now
            listed = any(found.lease_id == lease.lease_id for found in backend.leases())
            error = None
        except InfrastructureError as failure:
            listed, error = True, failure  # not knowing is not gone
        except UserError as refusal:  # a right that is missing: asking again does not help
            raise TeardownUnconfirmed(
                f"lease {lease.lease_id} ({lease.backend}) may still be running: {refusal}",
                hint=refusal.hint or "grant what is missing; `drillyard reap` tries again",
            ) from refusal
        if listed:
            absent_since = None
        elif absent_since is None:
            absent_since = now
        elif now - absent_since >= settle_s:  # seen at least twice in a row
            return
        if listed and now >= deadline:
            raise TeardownUnconfirmed(
                f"lease {lease.lease_id} ({lease.backend}) may still be running: "
                + (str(error) if error else "the provider lists it still"),
                hint="results are safe; `drillyard reap` tries again, or the same command",
            ) from error
        # While nothing is listed only time must pass: few looks spare the project's quota.
        clock.wait(never, pause_s if absent_since is None else max(pause_s, settle_s / 4.0))
