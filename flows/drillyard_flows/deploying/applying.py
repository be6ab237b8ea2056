"""Compares the desired deployment with the server, and applies the differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard_flows.deploying.files import DesiredDeployment

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from drillyard_flows.deploying.parts import Part


@dataclass(frozen=True)
class Change:
    """A change to one part: ``new``, the keys that differ, or empty."""

    kind: str
    name: str
    what: str


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


def deploy(
    client: SyncPrefectClient, parts: list[Part], *, dry_run: bool = False
) -> Iterator[Change]:
    """Applies every part; yields each of them, including the unchanged ones.

    Args:
        client: Client of the server.
        parts: The parts.
        dry_run: Compare only.

    Raises:
        ConfigError: A part cannot be applied.
    """
    for part in parts:
        what = part.difference(client)
        if what and not dry_run:
            part.apply(client)
        yield Change(part.kind, part.name, what)


def undeploy(client: SyncPrefectClient, parts: list[Part]) -> Iterator[Change]:
    """Removes every part, the last one first; yields those that existed."""
    for part in reversed(parts):
        if part.remove(client):
            yield Change(part.kind, part.name, "removed")
