"""Hosts of copies on the machines of a lease on Google Cloud: by which address they reach it."""

from __future__ import annotations

from drillyard.errors import InfrastructureError
from drillyard.simulators.hosts.posted import PostedHosts, own_addresses
from drillyard_backends.gcp.metadata import Metadata

ADDRESS = "instance/network-interfaces/0/ip"
"""Internal address of the first network interface: all zones of a network route it."""


class GcpHosts(PostedHosts):
    """The hosts of one training: the provider of the backend ``gcp``."""

    def addresses(self) -> list[str]:
        """Returns the internal address as Google says it, then what the machine itself has."""
        try:
            address = Metadata().text(ADDRESS)
        except InfrastructureError:
            address = None
        return [*([address] if address else []), *own_addresses()]
