"""The calls to a workspace, each once and in one place; the real azure-ai-ml makes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from drillyard_backends.azure.errors import seam
from drillyard_backends.azure.login import credential
from drillyard_backends.azure.settings import AzureConfig

ARM = "https://management.azure.com"
_SCOPE = f"{ARM}/.default"
VERSION = "2024-10-01"
"""Of the API, where azure-ai-ml does not choose its own."""


class Service:
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
            f"workspaces/{c.workspace}/datastores/workspaceblobstore"
        )

    @cached_property
    def _client(self) -> Any:
        with seam("reach Azure ML"):
            from azure.ai.ml import MLClient

            # It says "experimental" of its own classes, at every call.
            logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)
            return MLClient(
                credential(), self._config.subscription_id, self._config.resource_group,
                self._config.workspace, enable_telemetry=False, show_progress=False,
            )  # fmt: skip

    @property
    def client(self) -> Any:
        """Made once, whichever thread is first."""
        with self._lock:
            return self._client

    # -- workspace ----------------------------------------------------------------------------

    def workspace(self) -> dict[str, Any]:
        """The workspace itself: ``location`` and ``properties``, as Azure says them.

        Raises:
            Missing: There is none of that name.
        """
        return self.ask(self.root)

    def datastore(self) -> tuple[str, str]:
        """Account and container of the workspace's own blob storage."""
        found = self.ask(f"{self.root}/datastores/workspaceblobstore")["properties"]
        return str(found["accountName"]), str(found["containerName"])

    def denied(self, actions: list[str]) -> list[str]:
        """Which of these actions the caller may not do in the workspace."""
        document = self.ask(
            f"{self.root}/providers/Microsoft.Authorization/permissions", "2022-04-01"
        )
        given = document.get("value", [])
        return [action for action in actions if not any(_allows(one, action) for one in given)]

    def sizes(self, location: str) -> dict[str, dict[str, Any]]:
        """Sizes of nodes of a region: lower-case name to ``family``, ``vCPUs``, ``gpus``."""
        found = self.ask(f"{self._region(location)}/vmSizes").get("value", [])
        return {str(one["name"]).lower(): one for one in found}

    def usages(self, location: str) -> dict[str, tuple[int, int]]:
        """Cores in use and allowed, by lower-case family; ``lowprioritycores`` is one of them."""
        found = self.ask(f"{self._region(location)}/usages").get("value", [])
        return {
            str(one["name"]["value"]).lower(): (int(one["currentValue"]), int(one["limit"]))
            for one in found
        }

    def _region(self, location: str) -> str:
        subscription = f"/subscriptions/{self._config.subscription_id}"
        return f"{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"

    def ask(self, path: str, version: str = VERSION, host: str = ARM) -> dict[str, Any]:
        """A question that azure-ai-ml, which takes seconds to import, is not needed for."""
        return self._send("GET", f"{host}{path}", version, f"ask for {path.rpartition('/')[2]}")

    def put(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make something, or change it; safe to repeat.

        Raises:
            Exists: Another one of that name is there.
        """
        what = f"make {path.rpartition('/')[2]}"
        return self._send("PUT", f"{ARM}{path}", VERSION, what, document)

    def post(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A question that Azure wants as an action: keys, logs."""
        what = f"ask for {path.rpartition('/')[2]}"
        return self._send("POST", f"{ARM}{path}", VERSION, what, document)

    def delete(self, path: str) -> None:
        """Ask for the end of something.

        Raises:
            Missing: It is gone.
        """
        self._send("DELETE", f"{ARM}{path}", VERSION, f"delete {path.rpartition('/')[2]}")

    def _send(
        self, method: str, url: str, version: str, what: str,
        document: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        with seam(what):
            from azure.core.rest import HttpRequest

            body = None if document is None else dict(document)
            request = HttpRequest(method, url, params={"api-version": version}, json=body)
            answer = self._line.send_request(request)
            answer.raise_for_status()
            return dict(answer.json()) if answer.content else {}

    def score(
        self, url: str, key: str, deployment: str, question: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask one deployment of an endpoint, whoever has the traffic."""
        with seam("ask the endpoint"):
            from azure.core.rest import HttpRequest

            headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": deployment}
            request = HttpRequest("POST", url, headers=headers, json=dict(question))
            answer = self._plain.send_request(request)
            answer.raise_for_status()
            return dict(answer.json())

    @cached_property
    def _plain(self) -> Any:
        """A line without our own sign-in, which is none of the endpoint's business."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import RetryPolicy

        return PipelineClient(ARM, policies=[RetryPolicy()])

    @cached_property
    def _line(self) -> Any:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        policies = [RetryPolicy(), BearerTokenCredentialPolicy(credential(), _SCOPE)]
        return PipelineClient(ARM, policies=policies)

    # -- clusters -----------------------------------------------------------------------------

    def compute(self, name: str) -> Any:
        """A cluster.

        Raises:
            Missing: There is none of that name.
        """
        with seam(f"look at cluster {name}"):
            return self.client.compute.get(name)

    def computes(self) -> Iterator[Any]:
        """Every cluster of the workspace."""
        with seam("list clusters"):
            yield from list(self.client.compute.list(compute_type="AmlCompute"))

    def make_compute(self, compute: Any) -> None:
        """Ask for a cluster; returns when it was asked for."""
        with seam(f"create cluster {compute.name}"):
            self.client.compute.begin_create_or_update(compute)

    def delete_compute(self, name: str) -> None:
        """Ask for the end of a cluster.

        Raises:
            Missing: It is gone.
        """
        with seam(f"delete cluster {name}"):
            self.client.compute.begin_delete(name)

    # -- environments -------------------------------------------------------------------------

    def environment(self, name: str, version: str) -> Any:
        """An environment.

        Raises:
            Missing: There is none.
        """
        with seam(f"look at environment {name}:{version}"):
            return self.client.environments.get(name, version)

    def make_environment(self, environment: Any) -> None:
        """Register an environment; a build folder goes up first."""
        with seam(f"create environment {environment.name}"):
            self.client.environments.create_or_update(environment)

    # -- jobs ---------------------------------------------------------------------------------

    def submit(self, job: Any) -> Any:
        """Submit a job; the same again changes nothing.

        Raises:
            Exists: Another one has its name.
        """
        with seam(f"submit job {job.name}"):
            return self.client.jobs.create_or_update(job)

    def jobs(self, tag: str) -> list[Any]:
        """Jobs with a tag of that name, the newest first."""
        with seam("list jobs"):
            return [job for job in self.client.jobs.list(tag=tag) if job is not None]

    def cancel(self, name: str) -> None:
        """Ask for the end of a job.

        Raises:
            Missing: There is none.
        """
        with seam(f"cancel job {name}"):
            self.client.jobs.begin_cancel(name, polling=False)

    def trouble(self, name: str, location: str) -> tuple[str, str]:
        """Why a job failed, by the history of runs: (code, message); empty where it did not."""
        host = f"https://{location}.api.azureml.ms"
        path = f"/history/v1.0{self.root}/runs/{name}/details"
        error = (self.ask(path, "v1.0", host).get("error") or {}).get("error") or {}
        return str(error.get("code", "")), str(error.get("message", ""))


def _allows(right: Mapping[str, Any], action: str) -> bool:
    """Whether a permission has an action, and does not take it out again."""

    def among(patterns: list[str]) -> bool:
        import fnmatch

        return any(fnmatch.fnmatch(action.lower(), p.lower()) for p in patterns)

    return among(right.get("actions") or []) and not among(right.get("notActions") or [])


def word(value: Any) -> str:
    """A state as Azure writes it; the libraries make some of them members of an enumeration."""
    return str(getattr(value, "value", value) or "")
