"""A deployment: a flow, its form, its schedules, its work pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from drillyard.errors import ConfigError
from drillyard.registry import load_object
from drillyard_flows.deploying.parts import NEW, changed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

_SCHEDULES = {"cron", "interval", "rrule", "timezone", "day_or", "anchor_date"}


class Deployment:
    """One entry of ``prefect.yaml``.

    Args:
        wanted: The entry.
        folder: Where its flow runs start: relative paths in the form are seen from here.

    Raises:
        PluginError: Its flow cannot be imported.
        ConfigError: What Prefect does not understand.
    """

    kind = "deployment"

    def __init__(self, wanted: Mapping[str, Any], folder: str) -> None:
        self._wanted = wanted
        self._flow = load_object(str(wanted["entrypoint"]))
        self.name = f"{self._flow.name}/{wanted['name']}"
        self._folder = folder

    def difference(self, client: SyncPrefectClient) -> str:
        """See ``Part``."""
        found = self._found(client)
        if found is None:
            return NEW
        return changed(_before(found), self._after(found))

    def apply(self, client: SyncPrefectClient) -> None:
        """See ``Part``; a schedule that somebody switched on or off stays so."""
        found = self._found(client)
        if found is not None and not changed(_before(found), self._after(found)):
            return
        limit, options = self._limit()
        client.create_deployment(
            flow_id=client.create_flow_from_name(self._flow.name),
            name=str(self._wanted["name"]),
            description=self._description(),
            tags=list(self._wanted.get("tags") or []),
            entrypoint=str(self._wanted["entrypoint"]),
            parameters=dict(self._wanted.get("parameters") or {}),
            parameter_openapi_schema=self._form(),
            enforce_parameter_schema=True,
            work_pool_name=self._pool(),
            job_variables=self._job(),
            schedules=self._schedules(found),
            concurrency_limit=limit,
            concurrency_options=options,
        )

    def remove(self, client: SyncPrefectClient) -> bool:
        """See ``Part``; its past runs stay."""
        found = self._found(client)
        if found is not None:
            client.delete_deployment(found.id)
        return found is not None

    def _found(self, client: SyncPrefectClient) -> DeploymentResponse | None:
        from prefect.exceptions import ObjectNotFound

        try:
            return client.read_deployment_by_name(self.name)
        except ObjectNotFound:
            return None

    def _after(self, found: DeploymentResponse) -> dict[str, Any]:
        limit, options = self._limit()
        return {
            "description": self._description(),
            "tags": sorted(self._wanted.get("tags") or []),
            "entrypoint": str(self._wanted["entrypoint"]),
            "parameters": dict(self._wanted.get("parameters") or {}),
            "form": self._form(),
            "work pool": self._pool(),
            "folder": self._job(),
            "schedules": [_schedule(s) for s in self._schedules(found)],
            "concurrency limit": (limit, options and str(options.collision_strategy)),
        }

    def _description(self) -> str | None:
        given = self._wanted.get("description")
        return str(given) if given else None

    def _form(self) -> dict[str, Any]:
        """The flow's parameters; another name is refused when a run is asked for."""
        return {**self._flow.parameters.model_dump(mode="json"), "additionalProperties": False}

    def _pool(self) -> str:
        return str((self._wanted.get("work_pool") or {}).get("name"))

    def _job(self) -> dict[str, Any]:
        given = (self._wanted.get("work_pool") or {}).get("job_variables") or {}
        return {"working_dir": self._folder, **given}

    def _limit(self) -> tuple[int | None, Any]:
        from prefect.client.schemas.objects import ConcurrencyOptions

        given = self._wanted.get("concurrency_limit")
        if not isinstance(given, Mapping):
            return given, None
        return int(given["limit"]), ConcurrencyOptions.model_validate(
            {k: v for k, v in given.items() if k != "limit"}
        )

    def _schedules(self, found: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
        from prefect.client.schemas.actions import DeploymentScheduleCreate

        switched = {s.slug: s.active for s in found.schedules} if found is not None else {}
        made = []
        for given in self._wanted.get("schedules") or []:
            slug = given.get("slug")
            try:
                made.append(
                    DeploymentScheduleCreate.model_validate(
                        {
                            "schedule": {k: v for k, v in given.items() if k in _SCHEDULES},
                            "active": switched.get(slug, given.get("active", True)),
                            "slug": slug,
                            "parameters": given.get("parameters") or {},
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
        return made


def _before(found: DeploymentResponse) -> dict[str, Any]:
    limit = found.global_concurrency_limit
    options = found.concurrency_options
    return {
        "description": found.description,
        "tags": sorted(found.tags),
        "entrypoint": found.entrypoint,
        "parameters": found.parameters,
        "form": found.parameter_openapi_schema,
        "work pool": found.work_pool_name,
        "folder": found.job_variables,
        "schedules": [_schedule(s) for s in found.schedules],
        "concurrency limit": (limit and limit.limit, options and str(options.collision_strategy)),
    }


def _schedule(given: Any) -> dict[str, Any]:
    return dict(
        given.model_dump(mode="json", include={"schedule", "active", "slug", "parameters"})
    )
