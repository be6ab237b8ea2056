"""The server itself on Cloud Run: closed to all but those who are named; it keeps nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, PORT, Choices
from drillyard_backends.gcp.mlflow_server.part import Part, State, covers
from drillyard_backends.gcp.mlflow_server.secret import AddressSecret

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

_READY_S = 900.0
_DECIDED = ("CONDITION_SUCCEEDED", "CONDITION_FAILED")


class Service(Part):
    """The server: the one part that ``down`` takes away.

    Args:
        google: Makes the calls.
        choices: Names and sizes.
        url: The server's address, known before it is made.
        secret: Remembers the guests while there is no server.
    """

    title = "server"
    keeps_data = False
    role = "roles/run.invoker"

    def __init__(self, google: Google, choices: Choices, url: str, secret: AddressSecret) -> None:
        super().__init__(google, choices)
        self.url, self._secret = url, secret

    @property
    def called(self) -> str:
        """See ``Part``."""
        return f"the service {self._choices.name}"

    def state(self, resource: dict[str, Any]) -> State:
        """See ``Part``."""
        policy = self._google.call(self.policy())
        condition = resource.get("terminalCondition", {})
        if policies.open_to(policy) or resource.get("invokerIamDisabled"):
            return State(True, False, f"{self.url}, OPEN TO EVERYBODY: run `up`")
        if condition.get("state") != "CONDITION_SUCCEEDED":
            return State(True, False, str(condition.get("message") or "not ready"))
        return State(True, True, self.url)

    def ensure(self) -> str:
        """Deploy it where it is missing or another, and let only those in who are named."""
        resource, done, document = self.current(), "kept", self.document()
        waiting = self._secret.remembered(server_is_there=resource is not None)
        guests = [*self._choices.members, *waiting]
        if resource is None:
            request = self.collection.create(
                parent=self._choices.place, serviceId=self._choices.name, body=document
            )
            self._deploy(request)
            done = "deployed"
        else:
            self.must_be_ours(resource)
            failed = resource.get("terminalCondition", {}).get("state") == "CONDITION_FAILED"
            if failed or not covers(resource, document):
                self._deploy(self.collection.patch(name=self.name, body=document))
                done = "deployed anew"
        resource = self._google.wait(self._settled, "the server", _READY_S)
        condition = resource.get("terminalCondition", {})
        if condition.get("state") != "CONDITION_SUCCEEDED":
            reason = condition.get("message") or "Google gives no reason"
            raise ControlPlaneError(
                f"the server does not start: {reason}",
                hint=f"its log: gcloud run services logs read {self._choices.name} --region "
                f"{self._choices.region}",
            )
        changed = self.change_policy(
            lambda policy: (
                policies.give(policy, self.role, guests)
                | policies.take(policy, policies.EVERYBODY)
            )
        )
        if waiting:
            self._secret.remember([])
        return "its guests changed" if changed and done == "kept" else done

    def remove(self) -> None:
        """Removes it; its address is free for the next ``up``."""
        guests = set(policies.holders(self._google.call(self.policy()), self.role))
        guests.update(self._secret.remembered(server_is_there=True))
        self._secret.remember(sorted(guests))
        super().remove()
        self.gone()

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self._choices.place}/services/{self._choices.name}"

    def document(self) -> dict[str, object]:
        """Returns the description of the service for Cloud Run."""
        choices = self._choices
        address = {"secretKeyRef": {"secret": choices.secret, "version": "latest"}}
        # Cloud Run also answers at an older kind of address, with a hash in it.
        hosts = f"{self.url.removeprefix('https://')},{choices.name}-*.a.run.app"
        container = {
            "name": "mlflow",
            "image": choices.image_uri,
            "ports": [{"containerPort": PORT}],
            "env": [
                {"name": "MLFLOW_BACKEND_STORE_URI", "valueSource": address},
                {"name": "MLFLOW_ARTIFACTS_DESTINATION", "value": f"gs://{choices.bucket}/mlflow"},
                {"name": "MLFLOW_SERVER_ALLOWED_HOSTS", "value": hosts},
                {"name": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "value": self.url},
                # Its job queue, for judging language models, runs jobs that clients ask for.
                {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
            ],
            "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "startupCpuBoost": True},
            "startupProbe": {
                "httpGet": {"path": "/health", "port": PORT},
                "periodSeconds": 5,
                "timeoutSeconds": 4,
                "failureThreshold": 48,
            },
            "volumeMounts": [{"name": "cloudsql", "mountPath": "/cloudsql"}],
        }
        database = {"name": "cloudsql", "cloudSqlInstance": {"instances": [choices.connection]}}
        return {
            "labels": LABELS,
            "ingress": "INGRESS_TRAFFIC_ALL",
            "invokerIamDisabled": False,
            "template": {
                "serviceAccount": choices.account,
                # One is enough, and idle it costs nothing; the database outlives it.
                "scaling": {"minInstanceCount": 0, "maxInstanceCount": 1},
                "timeout": "3600s",
                "containers": [container],
                "volumes": [database],
            },
        }

    # -- inside -------------------------------------------------------------------------------

    @property
    def _locations(self) -> Resource:
        return self._google.api("run", "v2").projects().locations()

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._locations.services()

    def _settled(self) -> dict[str, Any] | None:
        resource = self.current()
        if resource is None or resource.get("reconciling"):
            return None
        # Just after its creation a service has no condition yet, or a pending one.
        return resource if resource.get("terminalCondition", {}).get("state") in _DECIDED else None

    def _deploy(self, request: HttpRequest) -> None:
        with contextlib.suppress(Exists):  # the first answer was lost
            operations = self._locations.operations()
            self._google.finish(self._google.call(request), operations, "the server", _READY_S)
