"""The bucket that keeps artifacts; only the server may touch it, clients go through the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists
from drillyard_backends.gcp.mlflow_server.names import LABELS
from drillyard_backends.gcp.mlflow_server.part import Part, State, covers

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

_CLOSED = {
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    }
}


class ArtifactBucket(Part):
    """One bucket beside the server."""

    title = "bucket for artifacts"
    role = "roles/storage.objectUser"

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._google.api("storage", "v1").buckets()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return self._choices.bucket

    @property
    def address(self) -> dict[str, str]:
        """See ``Part``."""
        return {"bucket": self.name}

    @property
    def called(self) -> str:
        """See ``Part``."""
        return f"gs://{self.name}"

    def state(self, resource: dict[str, Any]) -> State:
        """See ``Part``."""
        granted = self.granted()
        ready = covers(resource, _CLOSED) and granted
        return State(True, ready, self.called + ("" if ready else ", ajar"))

    def ensure(self) -> str:
        """Make it, close it, open it for the server."""
        resource, done = self.current(), "kept"
        if resource is None:
            body = {
                "name": self.name,
                "location": self._choices.region.upper(),
                "labels": LABELS,
                **_CLOSED,
            }
            try:
                request = self.collection.insert(project=self._choices.project, body=body)
                resource, done = self._google.call(request), "made"
            except Exists:
                resource = self.current() or {}  # ours by a lost answer, or another project's
        self.must_be_ours(resource)
        if not covers(resource, _CLOSED):
            self._google.call(self.collection.patch(**self.address, body=_CLOSED))
            done = "closed"
        changed = self.grant()
        return "opened for the server" if changed and done == "kept" else done

    def remove(self) -> None:
        """Removes it with everything in it."""
        objects = self._google.api("storage", "v1").objects()
        while True:
            request = objects.list(**self.address, versions=True, maxResults=500)
            items = self._google.call(request).get("items")
            if not items:
                break
            for item in items:
                which = {"object": item["name"], "generation": item["generation"]}
                self._google.find(objects.delete(**self.address, **which))
        super().remove()

    def current(self) -> dict[str, Any] | None:
        """See ``Part``."""
        return self._google.find(self.collection.get(**self.address, projection="noAcl"))

    def policy(self) -> HttpRequest:
        """See ``Part``."""
        return self.collection.getIamPolicy(**self.address, optionsRequestedPolicyVersion=3)

    def set_policy(self, policy: policies.Policy) -> HttpRequest:
        """See ``Part``."""
        return self.collection.setIamPolicy(**self.address, body=policy)
