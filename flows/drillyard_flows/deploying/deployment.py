"""A deployment: a flow, its form, its schedules, its work pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from drillyard.errors import ConfigError
from drillyard.registry import load_object
from drillyard_flows.deploying.parts import NEW, UPDATED, existing
from drillyard_flows.deploying.times import next_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule

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
    """

    kind = "deployment"

    def __init__(self, entry: Entry, folder: str) -> None:
        self._entry = entry
        self._flow = load_object(str(entry["entrypoint"]))
        self.name = f"{self._flow.name}/{entry['name']}"
        self._folder = folder

    def apply(self, client: SyncPrefectClient) -> str:
        """See ``Part``; schedules that people added stay, and so does who switched ours.

        Raises:
            ConfigError: Prefect refuses a schedule of the entry.
        """
        before = existing(client.read_deployment_by_name, self.name)
        limit, options = self._limit()
        pool = self._entry.get("work_pool") or {}
        client.create_deployment(
            flow_id=client.create_flow_from_name(self._flow.name),
            name=str(self._entry["name"]),
            description=str(self._entry.get("description") or "") or None,
            tags=list(self._entry.get("tags") or []),
            entrypoint=str(self._entry["entrypoint"]),
            parameters=dict(self._entry.get("parameters") or {}),
            parameter_openapi_schema=self._form(),
            enforce_parameter_schema=True,
            work_pool_name=str(pool.get("name")),
            job_variables={"working_dir": self._folder, **(pool.get("job_variables") or {})},
            schedules=self._schedules(before.schedules if before else []),
            concurrency_limit=limit,
            concurrency_options=options,
        )
        return UPDATED if before else NEW

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; its past runs stay."""
        deployment = existing(client.read_deployment_by_name, self.name)
        if deployment is not None:
            client.delete_deployment(deployment.id)
        return deployment is not None

    def _form(self) -> JsonObject:
        """Returns the schema of the flow's parameters, which refuses other names."""
        return {**self._flow.parameters.model_dump(mode="json"), "additionalProperties": False}

    def _limit(self) -> tuple[int | None, ConcurrencyOptions | None]:
        from prefect.client.schemas.objects import ConcurrencyOptions

        limit = self._entry.get("concurrency_limit")
        if not isinstance(limit, Mapping):
            return limit, None
        return int(limit["limit"]), ConcurrencyOptions.model_validate(
            {k: v for k, v in limit.items() if k != "limit"}
        )

    def _schedules(self, before: Sequence[DeploymentSchedule]) -> list[DeploymentScheduleCreate]:
        """Returns those of the file and, because an update replaces all, those of people."""
        from prefect.client.schemas.actions import DeploymentScheduleCreate

        entries = self._entry.get("schedules") or []
        slugs = {entry.get("slug") for entry in entries}
        switched = {schedule.slug: schedule.active for schedule in before}
        return [
            *(
                _schedule(entry, switched.get(entry.get("slug"), entry.get("active", True)))
                for entry in entries
            ),
            *(
                DeploymentScheduleCreate.model_validate(
                    added.model_dump(include=set(DeploymentScheduleCreate.model_fields))
                )
                for added in before
                if added.slug not in slugs
            ),
        ]


def _schedule(entry: Entry, active: bool) -> DeploymentScheduleCreate:
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    fields = {
        "schedule": {key: value for key, value in entry.items() if key in _SCHEDULES},
        "active": active,
        "slug": entry.get("slug"),
        "parameters": entry.get("parameters") or {},
    }
    try:
        schedule = DeploymentScheduleCreate.model_validate(fields)
        problem = "these times never come" if next_of(schedule.schedule) is None else None
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
    if problem is not None:
        raise ConfigError(
            problem,
            file="prefect.yaml",
            field="schedules",
            value=entry.get("slug"),
            hint="cron: '0 3 * * *', timezone: Europe/Berlin, slug: nightly",
        )
    return schedule
