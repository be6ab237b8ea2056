"""Requests that create something for a lease: only while the lease is open.

A process may be suspended at any moment, in a request too, and another command may end the lease
meanwhile. What is created after that is in no ledger, and no command would end it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from drillyard.backend import Backend, Lease
from drillyard.errors import InfrastructureError, StoreUnavailable, Superseded
from drillyard.leases.ledger import Ledger

log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_open(ledger: Ledger, backend: Backend, lease: Lease) -> Iterator[None]:
    """Check that a lease is open before and after what the block asks the provider for.

    If the lease was ended meanwhile, or is being ended, everything of it is ended again.

    Args:
        ledger: The leases of the experiment.
        backend: Backend of the lease.
        lease: The lease; its intent is in the ledger.

    Raises:
        Superseded: Another driver took over.
        StoreUnavailable: Another command ended the lease; whoever rents again gets another one.
    """
    ledger.must_be_open(lease.lease_id)
    try:
        yield
    finally:  # an error of the provider may hide that the request had its effect
        try:
            ledger.must_be_open(lease.lease_id)
        except (Superseded, StoreUnavailable):
            entry = ledger.entry(lease.lease_id)
            if entry is not None and entry.over:
                ask_to_go(backend, lease)
                ledger.doubt(lease.lease_id)
            raise


def ask_to_go(backend: Backend, lease: Lease) -> None:
    """Ask for the end of what is left of a lost lease; a teardown confirms it later."""
    try:
        backend.teardown(lease)
    except InfrastructureError as error:
        log.info("lease %s: %s; asked for again at the end", lease.lease_id, error)
