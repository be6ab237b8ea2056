"""Protects a lease from the reaper: in its mailbox, and with a mark on its machines."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from drillyard.backend import Lease, ProtectsLeases, open_backend
from drillyard.errors import DrillyardError, NotFound
from drillyard.leases.ledger import Ledger
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.reaper import configured
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.store import folders
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import LEASE


def protect(
    lease: str,
    until: float | None,
    *,
    store: str | None = None,
    on: Sequence[str] | None = None,
    clock: Clock = SYSTEM,
) -> list[str]:
    """Protect a lease, or end its protection.

    Args:
        lease: Its id.
        until: Epoch seconds; None: end the protection.
        store: ``--store``.
        on: Backends to search if no mailbox has the lease, as text; None: the configured ones.
        clock: For the record.

    Returns:
        Where the protection was written: ``mailbox``, ``machines``.

    Raises:
        NotFound: Neither the store nor a backend has it.
        InfrastructureError: The machines could not be marked.
    """
    found = (_in_store(lease, store) or _listed(lease, on)) if LEASE.match(lease) else None
    if found is None:
        raise NotFound(
            f"no lease {lease!r} in the store or on a configured backend",
            hint="`drillyard cost` and `drillyard reap --dry-run` list leases; --store or --on "
            "selects where to look",
        )
    where = []
    mailbox, known = found
    if mailbox is not None:
        Ledger(mailbox).protect(lease, until or 0.0, getpass.getuser())
        where.append("mailbox")
    backend = open_backend(known.backend, known.order.settings)
    if isinstance(backend, ProtectsLeases):
        backend.protect(known, until)
        where.append("machines")
    Audit(clock=clock).write(
        "protected" if until else "unprotected", lease, until=until, where=[*where]
    )
    return where


def _in_store(lease: str, store: str | None) -> tuple[Mailbox, Lease] | None:
    from drillyard.runs.locate import store_url

    opened = open_store(store_url(store))
    for name in folders(opened):
        mailbox = Mailbox(opened, name)
        entry = Ledger(mailbox).entry(lease)
        if entry is not None and entry.open:
            return mailbox, entry.lease
    return None


def _listed(lease: str, on: Sequence[str] | None) -> tuple[Mailbox | None, Lease] | None:
    for text in configured() if on is None else on:
        try:
            for listed_lease in open_backend(text).leases():
                if listed_lease.lease_id == lease:
                    return None, listed_lease
        except DrillyardError:
            if on is not None:
                raise
    return None
