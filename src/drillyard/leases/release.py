"""Ending a lease until its provider lists nothing: the one way for teardown and reaper.

A provider says "done" before it is, forgets to delete, and lists late. So the end is asked for
again and again, and believed only when the listing was empty for twice the provider's lag.
"""

from __future__ import annotations

from drillyard.backend import Backend, Lease, delays_of
from drillyard.errors import InfrastructureError, TeardownUnconfirmed, UserError
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import run_steps

_POLL_S = 0.1
_ASK_AGAIN_S = 5.0
_LONGEST_POLL_S = 5.0


class Release:
    """The end of one lease, in steps.

    Args:
        backend: Of the lease.
        lease: Which; already gone is success.
        timeout_s: How long to wait for the listing to become empty; the time that it must stay
            so comes on top.
    """

    def __init__(self, backend: Backend, lease: Lease, *, timeout_s: float) -> None:
        self._backend = backend
        self._lease = lease
        self._timeout_s = timeout_s
        self._settle_s = 2.0 * delays_of(backend).listing_lag_s
        self._again_s = max(_ASK_AGAIN_S, self._settle_s / 2.0)
        self._pause_s = min(max(_POLL_S, self._settle_s / 8.0), _LONGEST_POLL_S)
        self._deadline: float | None = None
        self._absent_since: float | None = None
        self._asked_at: float | None = None

    def step(self, now: float) -> float | None:
        """Ask, look, and say when to look again; None once the end is confirmed.

        Raises:
            TeardownUnconfirmed: Something of it is listed still, or nobody could be asked.
        """
        if self._deadline is None:
            self._deadline = now + self._timeout_s + self._settle_s
        error: InfrastructureError | None = None
        try:
            # Also once while nothing is listed: what was just created may not be listed yet.
            if self._due(now):
                self._backend.teardown(self._lease)
                self._asked_at = now
            listed = any(
                found.lease_id == self._lease.lease_id for found in self._backend.leases()
            )
        except InfrastructureError as failure:
            listed, error = True, failure  # not knowing is not gone
        except UserError as refusal:  # a right that is missing: asking again does not help
            raise self._unconfirmed(
                str(refusal), refusal.hint or "grant what is missing; `drillyard reap` tries again"
            ) from refusal
        if listed:
            self._absent_since = None
            if now >= self._deadline:
                raise self._unconfirmed(
                    str(error) if error else "the provider lists it still",
                    "results are safe; `drillyard reap` tries again, or the same command",
                ) from error
            return self._pause_s
        if self._absent_since is None:
            self._absent_since = now
        elif now - self._absent_since >= self._settle_s:  # seen at least twice in a row
            return None
        # While nothing is listed only time must pass: few looks spare the project's quota.
        return max(self._pause_s, self._settle_s / 4.0)

    def _due(self, now: float) -> bool:
        if self._asked_at is None:
            return True
        return self._absent_since is None and now - self._asked_at >= self._again_s

    def _unconfirmed(self, why: str, hint: str) -> TeardownUnconfirmed:
        return TeardownUnconfirmed(
            f"lease {self._lease.lease_id} ({self._lease.backend}) may still be running: {why}",
            hint=hint,
        )


def vacate(backend: Backend, lease: Lease, *, timeout_s: float, clock: Clock = SYSTEM) -> None:
    """End a lease, confirmed by the provider's own listing; see ``Release``.

    Raises:
        TeardownUnconfirmed: Something of it is listed still, or nobody could be asked.
    """
    run_steps(Release(backend, lease, timeout_s=timeout_s).step, clock)
