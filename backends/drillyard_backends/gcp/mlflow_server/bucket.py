"""The bucket that keeps artifacts; only the server may touch it, clients go through the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, Choices
from drillyard_backends.gcp.mlflow_server.part import MISSING, State, covers, must_be_ours

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

ROLE = "roles/storage.objectUser"
_CLOSED = {
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    }
}


class ArtifactBucket:
    """One bucket beside the server."""

    title = "bucket for artifacts"
    keeps_data = True

    def __init__(self, google: Google, choices: Choices) -> None:
        self._google, self._choices = google, choices

    def look(self) -> State:
        """What is there."""
        resource = self._current()
        if resource is None:
            return MISSING
        policy = self._google.call(self._read())
        ready = covers(resource, _CLOSED) and policies.has(policy, ROLE, self._member)
        return State(True, ready, f"gs://{self._choices.bucket}" + ("" if ready else ", ajar"))

    def ensure(self) -> str:
        """Make it, close it, open it for the server."""
        resource, done = self._current(), "kept"
        if resource is None:
            body = {
                "name": self._choices.bucket,
                "location": self._choices.region.upper(),
                "labels": LABELS,
                **_CLOSED,
            }
            try:
                resource, done = (
                    self._google.call(
                        self._buckets.insert(project=self._choices.project, body=body)
                    ),
                    "made",
                )
            except Exists:
                resource = self._current() or {}  # ours by a lost answer, or another project's
        must_be_ours(f"gs://{self._choices.bucket}", resource.get("labels"))
        if not covers(resource, _CLOSED):
            self._google.call(self._buckets.patch(bucket=self._choices.bucket, body=_CLOSED))
            done = "closed"
        changed = policies.ensure(self._google, self._read, self._write, [(ROLE, self._member)])
        return "opened for the server" if changed and done == "kept" else done

    def delete(self) -> bool:
        """Remove it with everything in it."""
        resource = self._current()
        if resource is None:
            return False
        must_be_ours(f"gs://{self._choices.bucket}", resource.get("labels"))
        objects = self._google.api("storage", "v1").objects()
        while True:
            page = self._google.call(
                objects.list(bucket=self._choices.bucket, versions=True, maxResults=500)
            )
            if not page.get("items"):
                break
            for item in page["items"]:
                self._google.find(
                    objects.delete(
                        bucket=self._choices.bucket,
                        object=item["name"],
                        generation=item["generation"],
                    )
                )
        self._google.find(self._buckets.delete(bucket=self._choices.bucket))
        return True

    @property
    def _buckets(self) -> Resource:
        return self._google.api("storage", "v1").buckets()

    @property
    def _member(self) -> str:
        return f"serviceAccount:{self._choices.account}"

    def _current(self) -> dict[str, Any] | None:
        return self._google.find(
            self._buckets.get(bucket=self._choices.bucket, projection="noAcl")
        )

    def _read(self) -> HttpRequest:
        return self._buckets.getIamPolicy(
            bucket=self._choices.bucket, optionsRequestedPolicyVersion=3
        )

    def _write(self, policy: policies.Policy) -> HttpRequest:
        return self._buckets.setIamPolicy(bucket=self._choices.bucket, body=policy)
