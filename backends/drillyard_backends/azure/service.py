"""The calls to a workspace, each once and in one place.

Plain REST carries all of them but environments that are built of a folder: azure-ai-ml uploads it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError, UserError
from drillyard_backends.azure.errors import Missing, seam
from drillyard_backends.azure.login import AGENT, credential
from drillyard_backends.azure.permissions import allowed
from drillyard_backends.azure.rest import CONNECT_S, LONGEST_CALL_S, READ_S, Rest, section
from drillyard_backends.azure.settings import AzureConfig

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

DATASTORE = "workspaceblobstore"
"""The datastore that Azure ML makes for a workspace: its own blob storage."""


class Service(Rest):
    """A workspace, as its clients see it.

    Args:
        config: Which.
    """

    def __init__(self, config: AzureConfig) -> None:
        self._config = config
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """Id of the workspace."""
        c = self._config
        return (
            f"/subscriptions/{c.subscription_id}/resourceGroups/{c.resource_group}/providers/"
            f"Microsoft.MachineLearningServices/workspaces/{c.workspace}"
        )

    @property
    def datastore_uri(self) -> str:
        """The workspace's own blob storage, as Azure ML addresses it."""
        c = self._config
        return (
            f"azureml://subscriptions/{c.subscription_id}/resourcegroups/{c.resource_group}/"
            f"workspaces/{c.workspace}/datastores/{DATASTORE}"
        )

    # -- workspace ----------------------------------------------------------------------------

    def workspace(self) -> JsonObject:
        """The workspace itself: ``location`` and ``properties``, as Azure says them.

        Raises:
            Missing: There is none of that name.
        """
        return self.ask(self.root)

    def own_datastore(self) -> tuple[str, str]:
        """Account and container of the workspace's own blob storage.

        Raises:
            Missing: There is no such workspace.
            UserError: The workspace has no such datastore.
        """
        try:
            return self.datastore()
        except Missing as error:
            self.workspace()
            raise UserError(
                f"workspace {self._config.workspace} has no datastore {DATASTORE}: {error}",
                hint="set backends.azure.account and backends.azure.container: a storage account "
                "and a container in it",
            ) from None

    def datastore(self, name: str = DATASTORE) -> tuple[str, str]:
        """Account and container of a datastore.

        Raises:
            Missing: There is no such datastore.
        """
        properties = section(self.ask(f"{self.root}/datastores/{name}"), "properties")
        try:
            return str(properties["accountName"]), str(properties["containerName"])
        except KeyError as error:
            raise ControlPlaneError(
                f"datastore {name}: Azure does not name its {error}"
            ) from error

    def denied(self, actions: list[str], scope: str | None = None) -> list[str]:
        """Which of these actions the caller may not do.

        Args:
            actions: Names of operations: ``Microsoft.MachineLearningServices/workspaces/read``.
            scope: Id of a resource; None: the workspace.
        """
        path = f"{scope or self.root}/providers/Microsoft.Authorization/permissions"
        given = list(self.pages(path, "2022-04-01"))
        return [action for action in actions if not any(allowed(right, action) for right in given)]

    def sizes(self, location: str) -> dict[str, JsonObject]:
        """Sizes of nodes of a region: lower-case name to ``family``, ``vCPUs``, ``gpus``."""
        listed = self.pages(f"{self._region(location)}/vmSizes")
        return {str(size.get("name", "")).lower(): size for size in listed}

    def usages(self, location: str) -> list[JsonObject]:
        """Rows of the quota of a region, as Azure ML writes them; ``quota`` reads them."""
        return list(self.pages(f"{self._region(location)}/usages"))

    def _region(self, location: str) -> str:
        subscription = f"/subscriptions/{self._config.subscription_id}"
        return f"{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"

    # -- clusters -----------------------------------------------------------------------------

    def compute(self, name: str) -> JsonObject:
        """A cluster, as Azure ML describes it.

        Raises:
            Missing: There is none of that name.
        """
        return self.ask(f"{self.root}/computes/{name}")

    def computes(self) -> Iterator[JsonObject]:
        """Every cluster of the workspace; machines of other kinds are left out."""
        for compute in self.pages(f"{self.root}/computes"):
            if section(compute, "properties").get("computeType") == "AmlCompute":
                yield compute

    def make_compute(self, name: str, document: Mapping[str, object]) -> None:
        """Ask for a cluster; returns when it was asked for.

        Raises:
            Exists: The name is taken, by a cluster of this workspace or of its region;
                ``Unchanged`` if the service says that it is one of this workspace.
        """
        self.put(f"{self.root}/computes/{name}", document, absent=True)

    def delete_compute(self, name: str) -> None:
        """Ask for the end of a cluster and of its nodes.

        Raises:
            Missing: It is gone.
        """
        self.delete(f"{self.root}/computes/{name}", underlyingResourceAction="Delete")

    # -- environments -------------------------------------------------------------------------

    @cached_property
    def _client(self) -> MLClient:
        with seam("reach Azure ML"):
            from azure.ai.ml import MLClient

            # It says "experimental" of its own classes, at every call.
            logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)
            return MLClient(
                credential(),
                self._config.subscription_id,
                self._config.resource_group,
                self._config.workspace,
                enable_telemetry=False,
                user_agent=AGENT,
                show_progress=False,
                connection_timeout=CONNECT_S,
                read_timeout=READ_S,
                timeout=int(LONGEST_CALL_S),
            )

    @property
    def client(self) -> MLClient:
        """Made once, whichever thread is first."""
        with self._lock:
            return self._client

    def environment(self, name: str, version: str) -> JsonObject:
        """An environment, as Azure ML describes it.

        Raises:
            Missing: There is none.
        """
        return self.ask(f"{self.root}/environments/{name}/versions/{version}")

    def make_environment(self, name: str, version: str, properties: Mapping[str, object]) -> None:
        """Register an environment of an image, and of conda packages on it.

        Raises:
            Exists: The version is there, with other content.
        """
        path = f"{self.root}/environments/{name}/versions/{version}"
        self.put(path, {"properties": dict(properties)})

    def build_environment(
        self, name: str, version: str, folder: Path, tags: Mapping[str, str]
    ) -> None:
        """Register an environment of a folder with a Dockerfile; the folder goes up first."""
        with seam(f"make {name}:{version}"):
            from azure.ai.ml.entities import BuildContext, Environment

            build = BuildContext(path=str(folder), dockerfile_path="Dockerfile")
            environment = Environment(name=name, version=version, build=build, tags=dict(tags))
            self.client.environments.create_or_update(environment)

    # -- jobs ---------------------------------------------------------------------------------

    def submit(self, name: str, properties: Mapping[str, object]) -> JsonObject:
        """Submit a job.

        Raises:
            Exists: A job has that name, whatever its content.
        """
        return self.put(f"{self.root}/jobs/{name}", {"properties": properties})

    def job(self, name: str) -> JsonObject:
        """A job, as Azure ML describes it.

        Raises:
            Missing: There is none of that name.
        """
        return self.ask(f"{self.root}/jobs/{name}")

    def jobs(self, tag: str) -> Iterator[JsonObject]:
        """Jobs with a tag of that name, archived ones too, the newest first."""
        yield from self.pages(f"{self.root}/jobs", tag=tag, listViewType="All")

    def cancel(self, name: str) -> None:
        """Ask for the end of a job.

        Raises:
            Missing: There is none.
        """
        self.post(f"{self.root}/jobs/{name}/cancel")

    def trouble(self, name: str, location: str) -> tuple[str, str]:
        """Why a job failed, by the history of runs: (code, message); empty where it did not."""
        host = f"https://{location}.api.azureml.ms"
        path = f"/history/v1.0{self.root}/runs/{name}/details"
        error = section(section(self.ask(path, "v1.0", host), "error"), "error")
        return str(error.get("code", "")), str(error.get("message", ""))
