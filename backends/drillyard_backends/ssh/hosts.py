"""Hosts of copies on machines reached by SSH: which address of the learner the others try."""

from __future__ import annotations

import os

from drillyard.simulators.hosts.posted import LOOPBACK, PostedHosts, own_addresses
from drillyard_backends.ssh.remote import REACHED_AT


class SshHosts(PostedHosts):
    """The hosts of one training: the provider of the backend ``ssh``."""

    def addresses(self) -> list[str]:
        """Returns what the login reached, and the machine's own addresses; loopback last."""
        reached = os.environ.get(REACHED_AT, "").split()
        names = [*reached, *own_addresses()]
        return [*(name for name in names if name != LOOPBACK), LOOPBACK]
