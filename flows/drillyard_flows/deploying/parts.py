"""Block types, work pools and automations: how to apply and remove each of them.

Applying a part again creates nothing twice, so every command can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from pydantic import ValidationError

from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

    from drillyard_flows.blocks import BackendBlock
    from drillyard_flows.deploying.files import Entry

NEW, UPDATED = "new", "updated"
T = TypeVar("T")


class Part(Protocol):
    """A part of the deployment on the server."""

    kind: str
    name: str

    def apply(self, client: SyncPrefectClient) -> str:
        """Creates or updates the part; returns ``new`` or ``updated``."""

    def remove(self, client: SyncPrefectClient) -> bool:
        """Removes the part; False if it does not exist, or is still needed."""


def existing(read: Callable[[str], T], name: str) -> T | None:
    """Returns what the server has under a name; None if it has nothing.

    Args:
        read: Method of Prefect's client.
        name: Name of the part.
    """
    from prefect.exceptions import ObjectNotFound

    try:
        return read(name)
    except ObjectNotFound:
        return None


class BlockType:
    """The block type for the settings of one backend."""

    kind = "block type"

    def __init__(self, block: type[BackendBlock]) -> None:
        self._block = block
        self.name = block.get_block_type_slug()

    def apply(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        before = existing(client.read_block_type_by_slug, self.name)
        self._block.register_type_and_schema()
        return UPDATED if before else NEW

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; a type with saved settings stays, with the settings."""
        block_type = existing(client.read_block_type_by_slug, self.name)
        if block_type is None or client.read_block_documents_by_type(self.name):
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
        self._variables = dict(entry.get("variables") or {})

    def apply(self, client: SyncPrefectClient) -> str:
        """See ``Part``.

        Raises:
            ConfigError: The server has a pool of this name with another type.
        """
        from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
        from prefect.workers.utilities import (
            get_default_base_job_template_for_infrastructure_type as template,
        )

        pool = existing(client.read_work_pool, self.name)
        if pool is None:
            default = asyncio.run(template(self._type))
            job = self._with_values(default or {})
            client.create_work_pool(
                WorkPoolCreate(
                    name=self.name, type=self._type, base_job_template=job, **self._fields
                )
            )
            return NEW
        if pool.type != self._type:
            raise ConfigError(
                f"the server has a work pool of this name with the type {pool.type}",
                field="work_pools.type",
                value=self._type,
                allowed=pool.type,
                hint=f"prefect work-pool delete {self.name}",
            )
        job = self._with_values(pool.base_job_template)
        client.update_work_pool(self.name, WorkPoolUpdate(base_job_template=job, **self._fields))
        return UPDATED

    def _with_values(self, job: dict[str, Any]) -> dict[str, Any]:
        """Returns a template with the values of the file for variables that have none."""
        properties = job.get("variables", {}).get("properties", {})
        for name, value in self._variables.items():
            field = properties.setdefault(name, {})
            if field.get("default") is None:
                field["default"] = value
        return job

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; a pool that other deployments use stays."""
        from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

        used = WorkPoolFilter(name=WorkPoolFilterName(any_=[self.name]))
        if existing(client.read_work_pool, self.name) is None or client.read_deployments(
            work_pool_filter=used
        ):
            return False
        client.delete_work_pool(self.name)
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

    def apply(self, client: SyncPrefectClient) -> str:
        """See ``Part``; the server decides whether an existing automation is enabled."""
        core = self._core()
        for automation in client.read_automations_by_name(self.name):
            core.enabled = automation.enabled
            client.update_automation(automation.id, core)
            return UPDATED
        client.create_automation(core)
        return NEW

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
