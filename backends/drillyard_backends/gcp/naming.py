"""Names and labels of everything that is made: computed from the order, never read back."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from drillyard.backend import Order
from drillyard.system.safe_names import LEASE, label, user_name

MARK = "drillyard"
"""Label of every machine of ours."""
MARK_VALUE = "machine"
LEASE_LABEL = "drillyard-lease"
EXPERIMENT_LABEL = "drillyard-experiment"
OWNER_LABEL = "drillyard-owner"
UNTIL_LABEL = "drillyard-until"
PROTECTED_LABEL = "drillyard-protected-until"
ORDER_KEY = "drillyard-order"
MACHINE_KEY = "drillyard-machine"
WORKER_KEY = "drillyard-worker"
GROUP_KEY = "drillyard-group"
_MACHINE = re.compile(r"(?P<base>.+)-w(?P<index>\d+)-(?P<generation>\d+)\Z")
_GROUP = re.compile(r"(?P<prefix>[a-z][-a-z0-9]*?)-(?P<hex>[0-9a-f]{10})(?:-(?P<variant>\d+))?\Z")


def base_name(prefix: str, lease_id: str) -> str:
    """``<prefix>-<10 hex>``: what every name of a lease begins with.

    The ten digits of a lease that is not called as ours are (a test's) come from its hash.
    """
    digits = lease_id.removeprefix("dy-")
    if not LEASE.match(lease_id):
        digits = hashlib.sha256(lease_id.encode()).hexdigest()[:10]
    return f"{prefix}-{digits}"


def group_name(base: str, variant: int) -> str:
    """Returns the name of a group and of its template; variant 0 has the lease's own name."""
    return base if variant == 0 else f"{base}-{variant}"


def lease_of(name: str, prefix: str) -> str | None:
    """The lease that a group or template of ours belongs to; None: not one of ours."""
    match = _GROUP.match(name)
    return f"dy-{match['hex']}" if match and match["prefix"] == prefix else None


@dataclass(frozen=True, order=True)
class Machine:
    """The name of a machine.

    Attributes:
        index: Which of the lease's machines, from 0.
        generation: How often it was lost before.
    """

    index: int
    generation: int = 0

    def name(self, base: str) -> str:
        """``<prefix>-<10 hex>-w<index>-<generation>``."""
        return f"{base}-w{self.index}-{self.generation}"

    @classmethod
    def parse(cls, name: str) -> Machine | None:
        """From a name; None where it is not one of ours."""
        match = _MACHINE.match(name)
        return cls(int(match["index"]), int(match["generation"])) if match else None


def labels(order: Order, own: dict[str, str]) -> dict[str, str]:
    """Labels of the machines of a lease.

    Args:
        order: The lease's order.
        own: The user's.
    """
    named = {
        **own,
        MARK: MARK_VALUE,
        LEASE_LABEL: order.lease_id,
        EXPERIMENT_LABEL: label(order.experiment or "none"),
        OWNER_LABEL: label(user_name()),
    }
    if order.deadline is not None:
        named[UNTIL_LABEL] = str(int(order.deadline))
    return named
