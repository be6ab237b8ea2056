"""Letting Google take a Spot machine away, as it would by itself."""

from __future__ import annotations

from drillyard_backends.gcp.operations import Compute, request_id
from drillyard_backends.gcp.zones import Place


def preempt(compute: Compute, place: Place, machine: str) -> None:
    """Ask for it; the machine then has its half minute of notice.

    Args:
        compute: Makes the call.
        place: The machine's zone.
        machine: Its name.

    Raises:
        Missing: There is no such machine.
        UserError: No permission (``compute.instances.simulateMaintenanceEvent``).
    """
    compute.call(
        f"simulate the preemption of {machine}",
        compute.client("InstancesClient").simulate_maintenance_event_unary,
        place,
        instance=machine,
        request_id=request_id(),
    )
