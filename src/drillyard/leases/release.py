"""Ends a lease until its provider lists nothing of it, for the teardown and for the reaper.

A provider says "done" before it is, forgets to delete, and lists late. So the end is asked for
again and again, and believed only when the listing was empty for twice the provider's lag.
"""

from __future__ import annotations

from drillyard.backend import Backend, FindsLeases, Lease, delays_of
from drillyard.errors import AccessDenied, DrillyardError, TeardownUnconfirmed
from drillyard.leases.reasons import Reasons
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import run_steps

_POLL_S = 0.1
_ASK_AGAIN_S = 5.0
_REFUSED_AGAIN_S = 1.0
"""After an ask that failed: what stood in the way is often over in a moment."""
_LONGEST_POLL_S = 5.0


class Release:
    """The end of one lease, in steps.

    Args:
        backend: Backend of the lease.
        lease: Which; already gone is success.
        timeout_s: How long to wait for the listing to become empty; the time that it must stay
            so comes on top.
        reasons: Says why the provider has not ended it yet.
    """

    def __init__(
        self, backend: Backend, lease: Lease, *, timeout_s: float, reasons: Reasons | None = None
    ) -> None:
        self._reasons = reasons or Reasons()
        self._backend = backend
        self._lease = lease
        self._timeout_s = timeout_s
        self._settle_s = 2.0 * delays_of(backend).listing_lag_s
        self._again_s = max(_ASK_AGAIN_S, self._settle_s / 2.0)
        self._pause_s = min(max(_POLL_S, self._settle_s / 8.0), _LONGEST_POLL_S)
        self._deadline: float | None = None
        self._absent_since: float | None = None
        self._trouble: DrillyardError | None = None
        self._why = ""
        """What the provider said when it was asked last."""
        self._ask_at: float | None = None
        """When to ask again; None: never asked."""
        self._asked = False
        """Once an ask was accepted, an empty listing can be believed."""

    def step(self, now: float) -> float | None:
        """Ask, look, and say when to look again; None once the end is confirmed.

        Raises:
            TeardownUnconfirmed: A part of it is still listed, or the provider could not be asked.
        """
        if self._deadline is None:
            self._deadline = now + self._timeout_s + self._settle_s
        try:
            # Also once while nothing is listed: a new machine may not be listed yet.
            if self._due(now):
                self._ask_at = now + _REFUSED_AGAIN_S
                self._backend.teardown(self._lease)
                self._ask_at, self._asked = now + self._again_s, True
                self._why = self._reasons.look(self._backend, self._lease)
            if self._asked:
                listed = self._listed()
                self._trouble = None
            else:
                listed = True
        except AccessDenied as refusal:  # asking again does not help
            raise self._unconfirmed(
                str(refusal), refusal.hint or "grant the permission; `drillyard reap` tries again"
            ) from refusal
        except DrillyardError as failure:
            # Unknown is not gone. After a refused cancel, or a conflict with another operation,
            # the next listing shows the state.
            listed, self._trouble = True, failure
        if listed:
            self._absent_since = None
            if now >= self._deadline:
                raise self._unconfirmed(
                    str(self._trouble or self._why or "the provider still lists it"),
                    "results are safe; run `drillyard reap` or the same command to try again",
                ) from self._trouble
            return self._pause_s
        if self._absent_since is None:
            self._absent_since = now
        elif now - self._absent_since >= self._settle_s:  # seen at least twice in a row
            return None
        # While nothing is listed, it only waits: few requests save the project's quota.
        return max(self._pause_s, self._settle_s / 4.0)

    def _due(self, now: float) -> bool:
        if self._ask_at is None:
            return True
        return now >= self._ask_at and (self._absent_since is None or not self._asked)

    def _listed(self) -> bool:
        if isinstance(self._backend, FindsLeases):
            return self._backend.listed(self._lease)
        return any(found.lease_id == self._lease.lease_id for found in self._backend.leases())

    def _unconfirmed(self, why: str, hint: str) -> TeardownUnconfirmed:
        return TeardownUnconfirmed(
            f"lease {self._lease.lease_id} ({self._lease.backend}) may still be running: {why}",
            hint=hint,
        )


def release_confirmed(
    backend: Backend, lease: Lease, *, timeout_s: float, clock: Clock = SYSTEM
) -> None:
    """End a lease, confirmed by the provider's own listing; see ``Release``.

    Raises:
        TeardownUnconfirmed: A part of it is still listed, or the provider could not be asked.
    """
    run_steps(Release(backend, lease, timeout_s=timeout_s).step, clock)
