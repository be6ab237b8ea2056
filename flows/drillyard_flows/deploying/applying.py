"""Everything that is wanted against everything that is there."""

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
    """What was, or would be, done about one thing: ``new``, keys that differ, or empty."""

    kind: str
    name: str
    what: str


def parts(wanted: DesiredDeployment, folder: Path, alerts: UUID | None) -> list[Part]:
    """In the order in which they need each other.

    Args:
        wanted: What the files say.
        folder: Where flow runs start.
        alerts: The block through which people are told.
    """
    from drillyard_flows.blocks import installed
    from drillyard_flows.deploying.deployment import Deployment
    from drillyard_flows.deploying.parts import Automation, BlockType, WorkPool

    return [
        *(BlockType(block) for block in installed().values()),
        *(WorkPool(one) for one in wanted.pools),
        *(Deployment(one, str(folder)) for one in wanted.deployments),
        *(Automation(one, alerts) for one in wanted.automations),
    ]


def deploy(
    client: SyncPrefectClient, found: list[Part], *, dry_run: bool = False
) -> Iterator[Change]:
    """Make everything so; yields each part, also where nothing differs.

    Args:
        client: Of the server.
        found: The parts.
        dry_run: Only look.

    Raises:
        ConfigError: A part that cannot be made so.
    """
    for part in found:
        what = part.difference(client)
        if what and not dry_run:
            part.apply(client)
        yield Change(part.kind, part.name, what)


def undeploy(client: SyncPrefectClient, found: list[Part]) -> Iterator[Change]:
    """Take everything away, last first; yields what was there."""
    for part in reversed(found):
        if part.remove(client):
            yield Change(part.kind, part.name, "removed")
