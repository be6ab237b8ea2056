"""A deployment: a flow, its form, its schedules, its work pool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from drillyard.errors import ConfigError
from drillyard.registry import load_object
from drillyard_flows.deploying.parts import NEW, changed
from drillyard_flows.deploying.times import next_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.client.schemas.responses import DeploymentResponse

    from drillyard.documents.json_types import JsonObject
    from drillyard_flows.deploying.files import Entry

_SCHEDULES = {"cron", "interval", "rrule", "timezone", "day_or", "anchor_date"}


class Deployment:
    """One entry of ``prefect.yaml``.

    Args:
        entry: The entry.
        folder: Folder in which its flow runs start. Paths in the form are relative to it.

    Raises:
        PluginError: Its flow cannot be imported.
        ConfigError: Prefect refuses the entry.
    """

    kind = "deployment"

    def __init__(self, entry: Entry, folder: str) -> None:
        self._entry = entry
        self._flow = load_object(str(entry["entrypoint"]))
        self.name = f"{self._flow.name}/{entry['name']}"
        self._folder = folder

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        existing = self._existing(client)
        if existing is None:
            return NEW
        return changed(_before(existing), self._after(existing))

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``; schedules that people added stay, and so does who switched ours."""
        existing = self._existing(client)
        if existing is not None and not changed(_before(existing), self._after(existing)):
            return
        limit, options = self._limit()
        client.create_deployment(
            flow_id=client.create_flow_from_name(self._flow.name),
            name=str(self._entry["name"]),
            description=self._description(),
            tags=list(self._entry.get("tags") or []),
            entrypoint=str(self._entry["entrypoint"]),
            parameters=dict(self._entry.get("parameters") or {}),
            parameter_openapi_schema=self._form(),
            enforce_parameter_schema=True,
            work_pool_name=self._pool(),
            job_variables=self._job(),
            schedules=self._schedules(existing),
            concurrency_limit=limit,
            concurrency_options=options,
        )

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; its past runs stay."""
        existing = self._existing(client)
        if existing is not None:
            client.delete_deployment(existing.id)
        return existing is not None

    def _existing(self, client: SyncPrefectClient) -> DeploymentResponse | None:
        from prefect.exceptions import ObjectNotFound

        try:
            return client.read_deployment_by_name(self.name)
        except ObjectNotFound:
            return None

    def _after(self, existing: DeploymentResponse) -> dict[str, object]:
        limit, options = self._limit()
        return {
            "description": self._description(),
            "tags": sorted(self._entry.get("tags") or []),
            "entrypoint": str(self._entry["entrypoint"]),
            "parameters": dict(self._entry.get("parameters") or {}),
            "form": self._form(),
            "work pool": self._pool(),
            "folder": self._job(),
            "schedules": _sorted(self._schedules(existing)),
            "concurrency limit": (limit, options and str(options.collision_strategy)),
        }

    def _description(self) -> str | None:
        description = self._entry.get("description")
        return str(description) if description else None

    def _form(self) -> JsonObject:
        """Returns the schema of the flow's parameters, which refuses other names."""
        return {**self._flow.parameters.model_dump(mode="json"), "additionalProperties": False}

    def _pool(self) -> str:
        return str((self._entry.get("work_pool") or {}).get("name"))

    def _job(self) -> JsonObject:
        variables = (self._entry.get("work_pool") or {}).get("job_variables") or {}
        return {"working_dir": self._folder, **variables}

    def _limit(self) -> tuple[int | None, ConcurrencyOptions | None]:
        from prefect.client.schemas.objects import ConcurrencyOptions

        limit = self._entry.get("concurrency_limit")
        if not isinstance(limit, Mapping):
            return limit, None
        return int(limit["limit"]), ConcurrencyOptions.model_validate(
            {k: v for k, v in limit.items() if k != "limit"}
        )

    def _schedules(self, existing: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
        from prefect.client.schemas.actions import DeploymentScheduleCreate

        switched = {s.slug: s.active for s in existing.schedules} if existing is not None else {}
        schedules = []
        for schedule in self._entry.get("schedules") or []:
            slug = schedule.get("slug")
            try:
                schedules.append(
                    DeploymentScheduleCreate.model_validate(
                        {
                            "schedule": {k: v for k, v in schedule.items() if k in _SCHEDULES},
                            "active": switched.get(slug, schedule.get("active", True)),
                            "slug": slug,
                            "parameters": schedule.get("parameters") or {},
                        }
                    )
                )
            except ValidationError as error:
                raise ConfigError(
                    error.errors()[0]["msg"],
                    file="prefect.yaml",
                    field="schedules",
                    value=slug,
                    hint="cron: '0 3 * * *', timezone: Europe/Berlin, slug: nightly",
                ) from None
        for made in schedules:
            if next_of(made.schedule) is None:
                raise ConfigError(
                    "these times never come",
                    file="prefect.yaml",
                    field="schedules",
                    value=made.slug,
                    hint="cron: '0 3 * * *', timezone: Europe/Berlin, slug: nightly",
                )
        # An update replaces all schedules of a deployment: those that people added come along.
        own = {schedule.get("slug") for schedule in self._entry.get("schedules") or []}
        for added in existing.schedules if existing is not None else []:
            if added.slug not in own:
                fields = added.model_dump(include=set(DeploymentScheduleCreate.model_fields))
                schedules.append(DeploymentScheduleCreate.model_validate(fields))
        return schedules


def _before(existing: DeploymentResponse) -> dict[str, object]:
    limit = existing.global_concurrency_limit
    options = existing.concurrency_options
    return {
        "description": existing.description,
        "tags": sorted(existing.tags),
        "entrypoint": existing.entrypoint,
        "parameters": existing.parameters,
        "form": existing.parameter_openapi_schema,
        "work pool": existing.work_pool_name,
        "folder": existing.job_variables,
        "schedules": _sorted(existing.schedules),
        "concurrency limit": (limit and limit.limit, options and str(options.collision_strategy)),
    }


def _sorted(schedules: Sequence[BaseModel]) -> list[JsonObject]:
    """The schedules in one order: the server has none."""
    return sorted(map(_schedule, schedules), key=lambda s: json.dumps(s, sort_keys=True))


def _schedule(schedule: BaseModel) -> JsonObject:
    return schedule.model_dump(mode="json", include={"schedule", "active", "slug", "parameters"})
