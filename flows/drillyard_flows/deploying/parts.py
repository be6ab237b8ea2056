"""Block types, work pools and automations: each knows what differs, how to apply it, to remove it.

Applying what is the same changes nothing on the server, so that every command can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from pydantic import ValidationError

from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

    from drillyard_flows.blocks import BackendBlock

NEW = "new"


class Part(Protocol):
    """One thing on the server."""

    kind: str
    name: str

    def difference(self, client: SyncPrefectClient) -> str:
        """``new``, what would change in words, or empty where all is as it should be."""

    def apply(self, client: SyncPrefectClient) -> None:
        """Make it so."""

    def remove(self, client: SyncPrefectClient) -> bool:
        """Take it away; False where it was not there, or is still needed."""


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The keys whose values differ, in words."""
    return ", ".join(key for key, value in after.items() if before.get(key) != value)


class BlockType:
    """The form for settings of one backend."""

    kind = "block type"

    def __init__(self, block: type[BackendBlock]) -> None:
        self._block = block
        self.name = block.get_block_type_slug()

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        from prefect.exceptions import ObjectNotFound

        try:
            client.read_block_type_by_slug(self.name)
            client.read_block_schema_by_checksum(self._block._calculate_schema_checksum())
        except ObjectNotFound:
            return NEW
        return ""

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``."""
        self._block.register_type_and_schema()

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; a type of which settings are kept stays, with the settings."""
        from prefect.exceptions import ObjectNotFound

        try:
            found = client.read_block_type_by_slug(self.name)
        except ObjectNotFound:
            return False
        if client.read_block_documents_by_type(self.name):
            return False
        client.delete_block_type(found.id)
        return True


class WorkPool:
    """Where workers fetch flow runs."""

    kind = "work pool"

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.name = str(wanted["name"])
        self._type = str(wanted.get("type", "process"))
        self._wanted = {
            "description": wanted.get("description"),
            "concurrency_limit": wanted.get("concurrency_limit"),
        }

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        from prefect.exceptions import ObjectNotFound

        try:
            found = client.read_work_pool(self.name)
        except ObjectNotFound:
            return NEW
        if found.type != self._type:
            raise ConfigError(
                f"the server has a work pool of this name and the type {found.type}",
                field="work_pools.type",
                value=self._type,
                allowed=found.type,
                hint=f"prefect work-pool delete {self.name}",
            )
        return changed(found.model_dump(), self._wanted)

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``."""
        from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
        from prefect.workers.utilities import (
            get_default_base_job_template_for_infrastructure_type as template,
        )

        difference = self.difference(client)
        if difference == NEW:
            job = asyncio.run(template(self._type)) or {}
            client.create_work_pool(
                WorkPoolCreate(
                    name=self.name, type=self._type, base_job_template=job, **self._wanted
                )
            )
        elif difference:
            client.update_work_pool(self.name, WorkPoolUpdate(**self._wanted))

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; a pool that somebody else's deployments use stays."""
        from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
        from prefect.exceptions import ObjectNotFound

        used = WorkPoolFilter(name=WorkPoolFilterName(any_=[self.name]))
        if client.read_deployments(work_pool_filter=used):
            return False
        try:
            client.delete_work_pool(self.name)
        except ObjectNotFound:
            return False
        return True


class Automation:
    """What the server does by itself when something happens, or does not.

    Args:
        wanted: Prefect's own format; an action ``send-notification`` names no block.
        alerts: The block through which people are told; None: nobody is, and the automation only
            shows in the server's event feed.
    """

    kind = "automation"

    def __init__(self, wanted: Mapping[str, Any], alerts: UUID | None) -> None:
        self.name = str(wanted["name"])
        self._wanted = dict(wanted)
        self._wanted["actions"] = [_action(a, alerts) for a in wanted["actions"]]

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        found = client.read_automations_by_name(self.name)
        if not found:
            return NEW
        return changed(_plain(found[0]), _plain(self._core()))

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``; whether it is switched on is the server's word, once it is there."""
        found = client.read_automations_by_name(self.name)
        core = self._core()
        if not found:
            client.create_automation(core)
        elif changed(_plain(found[0]), _plain(core)):
            core.enabled = found[0].enabled
            client.update_automation(found[0].id, core)

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``."""
        found = client.read_automations_by_name(self.name)
        for one in found:
            client.delete_automation(one.id)
        return bool(found)

    def _core(self) -> AutomationCore:
        from prefect.events.schemas.automations import AutomationCore

        try:
            return AutomationCore.model_validate(self._wanted)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                first["msg"],
                file=f"automations: {self.name}",
                field=".".join(str(part) for part in first["loc"]),
                hint="the format is that of `prefect automation create --from-file`",
            ) from None


def _action(wanted: Mapping[str, Any], alerts: UUID | None) -> dict[str, Any]:
    if wanted.get("type") != "send-notification":
        return dict(wanted)
    if alerts is None:
        return {"type": "do-nothing"}
    return {**wanted, "block_document_id": str(alerts)}


def _plain(core: AutomationCore) -> dict[str, Any]:
    """What people write, without what a server adds; sets have no order."""
    dumped = core.model_dump(
        mode="json", include={"description", "tags", "trigger", "actions"}, exclude_none=True
    )
    return {str(key): _sorted(value) for key, value in dumped.items()}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items() if key != "id"}
    if isinstance(value, list):
        return sorted((_sorted(one) for one in value), key=repr)
    return value
