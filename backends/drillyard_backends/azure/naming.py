"""Names and tags of everything that is made: computed from the order, never read back."""

from __future__ import annotations

import re
from collections.abc import Mapping

from drillyard.backend import Order
from drillyard.system.safe_names import LEASE, user_name

MARK = "drillyard"
"""Tag of every job, and of every cluster that belongs to one lease."""
LEASE_TAG = "drillyard-lease"
TICKET_TAG = "drillyard-ticket"
EXPERIMENT_TAG = "drillyard-experiment"
STORE_TAG = "drillyard-store"
OWNER_TAG = "drillyard-owner"
UNTIL_TAG = "drillyard-until"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


def job_name(lease_id: str, ticket: str, number: int) -> str:
    """Returns the name of the n-th job of a ticket: ``dy-0123456789-t0001-s1-train-1``."""
    return _NOT_IN_NAMES.sub("-", f"{lease_id}-{ticket}-{number}")


def cluster_of_size(size: str, low_priority: bool) -> str:
    """Returns the name of the cluster for a size that was chosen: ``dy-nc4ast4v3-low``.

    It is kept, as a named cluster is; a lease's own cluster has another form of name.
    """
    core = re.sub(r"[^a-z0-9]", "", size.lower().removeprefix("standard_"))
    return f"dy-{core}-{'low' if low_priority else 'full'}"


def experiment_name(experiment: str) -> str:
    """Under which Azure ML lists an experiment's jobs: it takes no dots."""
    return _NOT_IN_NAMES.sub("-", experiment)


def tags(order: Order, own: Mapping[str, str], **more: str) -> dict[str, str]:
    """Tags of what belongs to a lease; jobs are listed by the name of a tag, so the lease is one.

    Args:
        order: The order of the lease.
        own: The user's.
        more: Further ones.
    """
    named = {
        # Whether an empty value would be kept is not documented.
        **own,
        MARK: "lease",
        order.lease_id: "1",
        LEASE_TAG: order.lease_id,
        EXPERIMENT_TAG: order.experiment,
        STORE_TAG: order.store_url,
        OWNER_TAG: user_name(),
        **more,
    }
    if order.deadline is not None:
        named[UNTIL_TAG] = str(int(order.deadline))
    return named


def outline(tags: Mapping[str, str]) -> Order | None:
    """What tags tell of an order: enough to end the lease, and to know whether it is over."""
    lease_id = tags.get(LEASE_TAG, "")
    if not LEASE.match(lease_id):
        return None
    until = tags.get(UNTIL_TAG, "")
    return Order(
        lease_id=lease_id,
        experiment=tags.get(EXPERIMENT_TAG, ""),
        store_url=tags.get(STORE_TAG, ""),
        deadline=float(until) if until.isdecimal() else None,
    )
