"""Block types, work pools and automations: how to compare, apply and remove each of them.

Applying an unchanged part changes nothing on the server, so every command can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from pydantic import ValidationError

from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

    from drillyard.documents.json_types import Json, JsonObject
    from drillyard_flows.blocks import BackendBlock
    from drillyard_flows.deploying.files import Entry

NEW = "new"


class Part(Protocol):
    """A part of the deployment on the server."""

    kind: str
    name: str

    def difference(self, client: SyncPrefectClient) -> str:
        """Returns ``new``, the keys that differ, or empty if nothing differs."""

    def apply(self, client: SyncPrefectClient) -> None:
        """Creates or updates the part."""

    def remove(self, client: SyncPrefectClient) -> bool:
        """Removes the part; False if it does not exist, or is still needed."""


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Returns the keys whose values differ, separated by commas."""
    return ", ".join(key for key, value in after.items() if before.get(key) != value)


class BlockType:
    """The block type for the settings of one backend."""

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
        """See ``Part``; a type with saved settings stays, with the settings."""
        from prefect.exceptions import ObjectNotFound

        try:
            block_type = client.read_block_type_by_slug(self.name)
        except ObjectNotFound:
            return False
        if client.read_block_documents_by_type(self.name):
            return False
        client.delete_block_type(block_type.id)
        return True


class WorkPool:
    """A work pool, from which workers take flow runs."""

    kind = "work pool"

    def __init__(self, entry: Entry) -> None:
        self.name = str(entry["name"])
        self._type = str(entry.get("type", "process"))
        self._fields = {
            "description": entry.get("description"),
            "concurrency_limit": entry.get("concurrency_limit"),
        }

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        from prefect.exceptions import ObjectNotFound

        try:
            pool = client.read_work_pool(self.name)
        except ObjectNotFound:
            return NEW
        if pool.type != self._type:
            raise ConfigError(
                f"the server has a work pool of this name with the type {pool.type}",
                field="work_pools.type",
                value=self._type,
                allowed=pool.type,
                hint=f"prefect work-pool delete {self.name}",
            )
        return changed(pool.model_dump(), self._fields)

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
                    name=self.name, type=self._type, base_job_template=job, **self._fields
                )
            )
        elif difference:
            client.update_work_pool(self.name, WorkPoolUpdate(**self._fields))

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; a pool that other deployments use stays."""
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
    """An automation: what the server does when an event happens, or does not happen.

    Args:
        entry: Prefect's own format; an action ``send-notification`` names no block.
        alerts: The block that sends alerts. Without one, the automation is visible only in the
            server's event feed.
    """

    kind = "automation"

    def __init__(self, entry: Entry, alerts: UUID | None) -> None:
        self.name = str(entry["name"])
        self._entry = dict(entry)
        self._entry["actions"] = [_action(a, alerts) for a in entry["actions"]]

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        automations = client.read_automations_by_name(self.name)
        if not automations:
            return NEW
        return changed(_plain(automations[0]), _plain(self._core()))

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``; the server decides whether an existing automation is enabled."""
        automations = client.read_automations_by_name(self.name)
        core = self._core()
        if not automations:
            client.create_automation(core)
        elif changed(_plain(automations[0]), _plain(core)):
            core.enabled = automations[0].enabled
            client.update_automation(automations[0].id, core)

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``."""
        automations = client.read_automations_by_name(self.name)
        for automation in automations:
            client.delete_automation(automation.id)
        return bool(automations)

    def _core(self) -> AutomationCore:
        from prefect.events.schemas.automations import AutomationCore

        try:
            return AutomationCore.model_validate(self._entry)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                first["msg"],
                file=f"automations: {self.name}",
                field=".".join(str(part) for part in first["loc"]),
                hint="use the format of `prefect automation create --from-file`",
            ) from None


def _action(action: Entry, alerts: UUID | None) -> Entry:
    if action.get("type") != "send-notification":
        return dict(action)
    if alerts is None:
        return {"type": "do-nothing"}
    return {**action, "block_document_id": str(alerts)}


def _plain(core: AutomationCore) -> JsonObject:
    """Returns the user's fields without those that a server adds. Lists are sorted."""
    dumped = core.model_dump(
        mode="json", include={"description", "tags", "trigger", "actions"}, exclude_none=True
    )
    return {str(key): _sorted(value) for key, value in dumped.items()}


def _sorted(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items() if key != "id"}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=repr)
    return value
