"""The server itself on Cloud Run: closed to all but those who are named; it keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, PORT, Choices
from drillyard_backends.gcp.mlflow_server.part import MISSING, State, covers, must_be_ours
from drillyard_backends.gcp.mlflow_server.secret import AddressSecret

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

ROLE = "roles/run.invoker"
_READY_S = 900.0
_DECIDED = ("CONDITION_SUCCEEDED", "CONDITION_FAILED")


class Service:
    """The server: the one part that ``down`` takes away.

    Args:
        google: Makes the calls.
        choices: Names and sizes.
        url: The server's address, known before it is made.
        secret: Remembers the guests while there is no server.
    """

    title = "server"
    keeps_data = False

    def __init__(self, google: Google, choices: Choices, url: str, secret: AddressSecret) -> None:
        self._google, self._choices, self._secret = google, choices, secret
        self.url = url

    def look(self) -> State:
        """What is there."""
        resource = self._current()
        if resource is None:
            return MISSING
        policy = self._google.call(self._read())
        condition = resource.get("terminalCondition", {})
        if policies.open_to(policy) or resource.get("invokerIamDisabled"):
            return State(True, False, f"{self.url}, OPEN TO EVERYBODY: run `up`")
        if condition.get("state") != "CONDITION_SUCCEEDED":
            return State(True, False, str(condition.get("message") or "not ready"))
        return State(True, True, self.url)

    def ensure(self) -> str:
        """Deploy it where it is missing or another, and let only those in who are named."""
        resource, done, wanted = self._current(), "kept", self.document()
        waiting = self._secret.remembered(server_is_there=resource is not None)
        guests = [*self._choices.members, *waiting]
        if resource is None:
            request = self._services.create(
                parent=self._choices.place, serviceId=self._choices.name, body=wanted
            )
            self._deploy(request)
            done = "deployed"
        else:
            must_be_ours(f"the service {self._choices.name}", resource.get("labels"))
            failed = resource.get("terminalCondition", {}).get("state") == "CONDITION_FAILED"
            if failed or not covers(resource, wanted):
                self._deploy(self._services.patch(name=self.name, body=wanted))
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
        members = [(ROLE, member) for member in guests]
        changed = policies.ensure(self._google, self._read, self._write, members, closed=True)
        if waiting:
            self._secret.remember([])
        return "its guests changed" if changed and done == "kept" else done

    def delete(self) -> bool:
        """Remove it; its address is free for the next ``up``."""
        resource = self._current()
        if resource is None:
            return False
        must_be_ours(f"the service {self._choices.name}", resource.get("labels"))
        guests = set(policies.holders(self._google.call(self._read()), ROLE))
        guests.update(self._secret.remembered(server_is_there=True))
        self._secret.remember(sorted(guests))
        self._google.find(self._services.delete(name=self.name))
        self._google.wait(
            lambda: True if self._current() is None else None, "the end of the server", 300.0
        )
        return True

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
    def _services(self) -> Resource:
        return self._locations.services()

    def _current(self) -> dict[str, Any] | None:
        return self._google.find(self._services.get(name=self.name))

    def _settled(self) -> dict[str, Any] | None:
        resource = self._current()
        if resource is None or resource.get("reconciling"):
            return None
        # Just after its creation a service has no condition yet, or a pending one.
        return resource if resource.get("terminalCondition", {}).get("state") in _DECIDED else None

    def _deploy(self, request: HttpRequest) -> None:
        try:
            operation = self._google.call(request)
        except Exists:
            return  # the first answer was lost
        operations = self._locations.operations()
        self._google.finished(
            lambda: self._google.call(operations.get(name=operation["name"])),
            "the server",
            _READY_S,
        )

    def _read(self) -> HttpRequest:
        return self._services.getIamPolicy(resource=self.name, options_requestedPolicyVersion=3)

    def _write(self, policy: policies.Policy) -> HttpRequest:
        return self._services.setIamPolicy(resource=self.name, body={"policy": policy})
