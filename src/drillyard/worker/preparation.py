"""Prepares a worker's machine, and tries again while the infrastructure is away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import InfrastructureError, StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.worker.machine import Machine

AWAY_S = 900.0
"""Seconds for which a set-up is tried again; then this worker leaves, and may be replaced."""
INDEX_AWAY_S = 300.0
"""The same while the package index is away: a machine without a way to it never gets there."""
AGAIN_S = 5.0
"""Seconds between two tries."""
log = logging.getLogger(__name__)


class Preparation:
    """The set-up of one worker, in steps.

    Args:
        machine: What is prepared.
        mailbox: Where the user's code is.
        order: What was rented.
        tell: Receives a sentence for the worker's record when the set-up is tried again.
    """

    def __init__(
        self, machine: Machine, mailbox: Mailbox, order: Order, tell: Callable[[str], None]
    ) -> None:
        self._machine = machine
        self._mailbox = mailbox
        self._order = order
        self._tell = tell
        self._begin_at: float | None = 0.0
        self._failing_since: float | None = None

    def step(self, now: float) -> tuple[Path, ...] | None:
        """Begin, or look.

        Args:
            now: Monotonic seconds.

        Returns:
            Folders for the front of ``sys.path``; None while it goes on.

        Raises:
            UserError: The user's code or requirements cannot be installed.
            Exception: This machine cannot be used, and trying again does not help.
        """
        if self._begin_at is not None:
            if now < self._begin_at:
                return None
            self._begin_at = None
            self._machine.prepare(self._mailbox, self._order)
        try:
            return self._machine.prepared()
        except InfrastructureError as error:
            self._failing_since = now if self._failing_since is None else self._failing_since
            limit_s = AWAY_S if isinstance(error, StoreUnavailable) else INDEX_AWAY_S
            if not error.retryable or now - self._failing_since > limit_s:
                raise
            log.warning("the set-up is tried again in %.0f s: %s", AGAIN_S, error)
            self._tell(f"the set-up is tried again: {error}")
            self._begin_at = now + AGAIN_S
            return None
