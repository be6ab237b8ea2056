"""The parts of the deployment in the order of their dependencies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from drillyard_flows.deploying.files import DesiredDeployment
    from drillyard_flows.deploying.parts import Part


def parts(desired: DesiredDeployment, folder: Path, alerts: UUID | None) -> list[Part]:
    """Returns the parts in the order of their dependencies.

    Args:
        desired: The content of the files.
        folder: Folder in which flow runs start.
        alerts: The block that sends alerts.
    """
    from drillyard_flows.blocks import installed
    from drillyard_flows.deploying.deployment import Deployment
    from drillyard_flows.deploying.parts import Automation, BlockType, WorkPool

    return [
        *(BlockType(block) for block in installed().values()),
        *(WorkPool(entry) for entry in desired.pools),
        *(Deployment(entry, str(folder)) for entry in desired.deployments),
        *(Automation(entry, alerts) for entry in desired.automations),
    ]
