"""Single runs of a job that has several: each that was cancelled has a mark in the mailbox.

Azure can only cancel a whole job, with every run on its nodes. So a cancelled run is marked beside
the lease's order, and the nodes, which look for runs themselves, stop it and leave it alone::

    <experiment>/leases/<id>/stopped/<run>.json
"""

from __future__ import annotations

import json

from drillyard.backend import Order
from drillyard.mailbox import Store, open_store


def stop(order: Order, ticket: str) -> None:
    """Marks the run of a ticket; safe to repeat.

    Raises:
        StoreUnavailable: The mark could not be written; try again.
    """
    data = json.dumps({"schema_version": 1, "ticket": ticket}).encode()
    open_store(order.store_url).put(_key(order, _run(ticket)), data)


def allow(order: Order, ticket: str) -> None:
    """Removes the mark of a ticket's run, because the ticket is pushed again; safe to repeat.

    Raises:
        StoreUnavailable: The mark may still be there; try again.
    """
    open_store(order.store_url).delete(_key(order, _run(ticket)))


def stopped(store: Store, order: Order) -> frozenset[str]:
    """Returns the marked runs of a lease.

    Raises:
        StoreUnavailable: The marks cannot be listed.
    """
    prefix = _key(order, "")
    return frozenset(
        info.key.rpartition("/")[2].removesuffix(".json") for info in store.list(prefix)
    )


def _run(ticket: str) -> str:
    return ticket.rpartition(".")[0]


def _key(order: Order, run: str) -> str:
    folder = f"{order.experiment}/leases/{order.lease_id}/stopped"
    return f"{folder}/{run}.json" if run else f"{folder}/"
