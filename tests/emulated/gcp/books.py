"""What the emulator's own books say about a lease."""

from typing import Any

from drillyard.backend import Lease, Order
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.patience import until

# A machine, or a group, that Google is changing just now: 400 with one of two reasons, or 409.
BUSY = [(400, "resourceNotReady"), (400, "resourceInUseByAnotherResource"), (409, "conflict")]


def machines(cloud: GcpEmulator, order: Order, all_: bool = False) -> list[dict[str, Any]]:
    """What the emulator's own books have of a lease."""
    found = cloud.state()["all_machines" if all_ else "machines"]
    return [m for m in found if m["labels"].get("drillyard-lease") == order.lease_id]


def up(cloud: GcpEmulator, order: Order) -> list[str]:
    """Names of a lease's machines that are up."""
    return sorted(m["name"] for m in machines(cloud, order) if m["status"] == "RUNNING")


def nothing_left(cloud: GcpEmulator, order: Order) -> bool:
    """No machine, disk, group or template of a lease by the emulator's own books."""
    digits = order.lease_id.removeprefix("dy-")
    state = cloud.state()
    return digits not in str([state[k] for k in ("machines", "groups", "disks", "templates")])


def gone(cloud: GcpEmulator, backend: GcpBackend, lease: Lease) -> None:
    """Ends a lease, of which nothing is left after a while."""
    backend.teardown(lease)
    until(lambda: nothing_left(cloud, lease.order), what="an empty project")


def three(order: Order, **more: Any) -> Order:
    return order.model_copy(update={"workers": 3, **more})
