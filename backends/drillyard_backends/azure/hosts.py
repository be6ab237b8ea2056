"""Hosts of copies on the nodes of a job on Azure: by which address they reach the first one."""

from __future__ import annotations

import os

from drillyard.simulators.hosts.posted import PostedHosts, own_addresses
from drillyard_backends.azure.multi_node import FIRST


class AzureHosts(PostedHosts):
    """The hosts of one training: the provider of the backend ``azure``."""

    def addresses(self) -> list[str]:
        """Returns the first node's address as Azure ML tells all nodes, then what it has."""
        first = os.environ.get(FIRST)
        return [*([first] if first else []), *own_addresses()]
