"""What a provider itself says about machines that do not come or do not end, each reason once."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable

from drillyard.backend import Backend, ExplainsWaits, Lease
from drillyard.errors import DrillyardError

log = logging.getLogger(__name__)
Say = Callable[[str], None]


class Reasons:
    """Passes the reasons of providers on to the user while something is waited for.

    Args:
        say: Called with a sentence about each new reason.
    """

    def __init__(self, say: Say = log.info) -> None:
        self._say = say
        self._said: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def look(self, backend: Backend, lease: Lease) -> str:
        """Asks a provider, and says what it has not said before.

        Texts that differ only in the name of a machine are one reason: a hundred machines can be
        refused for the same one.

        Args:
            backend: Backend of the lease.
            lease: The lease that is waited for.

        Returns:
            All reasons of now as one text; empty if the provider says nothing.
        """
        if not isinstance(backend, ExplainsWaits):
            return ""
        try:
            reasons = list(backend.reasons(lease))
        except DrillyardError as error:
            log.info("why lease %s is waited for is unknown: %s", lease.lease_id, error)
            return ""
        name = re.compile(rf"{re.escape(lease.lease_id)}[\w-]*")
        for reason in reasons:
            key = lease.lease_id, name.sub("", reason)
            with self._lock:
                new = key not in self._said
                self._said.add(key)
            if new:
                self._say(f"{backend.kind}: {reason}")
        return "; ".join(reasons)
