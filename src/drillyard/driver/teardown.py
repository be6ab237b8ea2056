"""The teardown: ends every lease of the experiment, confirmed by its provider."""

from __future__ import annotations

from collections.abc import Callable

from drillyard.driver.lease_supervisor import LeaseSupervisor
from drillyard.errors import Superseded
from drillyard.leases.manager import Ending, LeaseManager

TEARDOWN_TIMEOUT_S = 60.0
_BUSY_S = 0.1


class Teardown:
    """The teardown of one experiment, in steps; several may run at the same time.

    Args:
        leases: The leases of the experiment.
        supervisor: Replaces no lease while leases are ended.
        may: Raises if this driver may no longer act.
        say: Called with a sentence if the machines belong to another driver.
        timeout_s: How long to wait for the provider's listing.
    """

    def __init__(
        self,
        leases: LeaseManager,
        supervisor: LeaseSupervisor,
        may: Callable[[], None],
        say: Callable[[str], None],
        timeout_s: float = TEARDOWN_TIMEOUT_S,
    ) -> None:
        self._supervisor = supervisor
        self._say = say
        self._ending = Ending(leases, timeout_s, may)
        self._began = False

    def step(self, now: float) -> float | None:
        """Take every lease one step further; None once no lease is listed.

        Raises:
            TeardownUnconfirmed: Something may still be running; results are intact.
        """
        if not self._began:
            if not self._supervisor.ending.acquire(blocking=False):
                return _BUSY_S
            self._began = True
            # What is being ended is not replaced.
            self._supervisor.set_up, self._supervisor.torn_down = False, True
        pause_s: float | None = None
        try:
            pause_s = self._ending.step(now)
        except Superseded as error:
            self._say(f"the teardown stops: {error}")
        finally:
            if pause_s is None:
                self._supervisor.ending.release()
                self._began = False
        return pause_s

    def abandon(self) -> None:
        """Stop this teardown, so that another one can continue it; safe to call again."""
        if self._began:
            self._supervisor.ending.release()
            self._began = False
