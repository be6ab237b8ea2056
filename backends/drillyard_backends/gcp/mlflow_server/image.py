"""The image that the server runs: built in the project from three files of this package."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, RECIPE, Choices, read_data
from drillyard_backends.gcp.mlflow_server.part import Part, State

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource

_BUILD_S = 1800.0
_END = "END-OF-THE-FILE-THAT-DRILLYARD-WROTE"


class Repository(Part):
    """Where the image is kept."""

    title = "repository of images"
    role = "roles/artifactregistry.writer"

    @property
    def called(self) -> str:
        """See ``Part``."""
        return f"the repository {self._choices.name}"

    def ensure(self) -> str:
        """Make it, and let the builder write to it."""
        resource, done = self.current(), "kept"
        if resource is None:
            body = {"format": "DOCKER", "labels": LABELS, "description": "MLflow for drillyard"}
            with contextlib.suppress(Exists):  # the first answer was lost
                request = self.collection.create(
                    parent=self._choices.place, repositoryId=self._choices.name, body=body
                )
                operations = self._locations.operations()
                self._google.finish(self._google.call(request), operations, self.called, 300.0)
            resource = self._google.wait(self.current, "the repository", 300.0)
            done = "made"
        self.must_be_ours(resource)
        self.grant()
        return done

    def remove(self) -> None:
        """Removes it with its images."""
        super().remove()
        self.gone()

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self._choices.place}/repositories/{self._choices.name}"

    @property
    def _locations(self) -> Resource:
        return self._google.api("artifactregistry", "v1").projects().locations()

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._locations.repositories()

    @property
    def member(self) -> str:
        """Who has the role: the account that builds."""
        return f"serviceAccount:{self._choices.builder}"


class Image(Part):
    """The image, named after its recipe: another recipe is another image."""

    title = "image"

    def __init__(self, google: Google, choices: Choices, repository: Repository) -> None:
        super().__init__(google, choices)
        self._repository = repository

    def state(self, resource: dict[str, Any]) -> State:
        """See ``Part``."""
        return State(True, True, self._choices.image_uri)

    def ensure(self) -> str:
        """Build it, unless it is there."""
        if self.current() is not None:
            return "kept"
        builds = self._google.api("cloudbuild", "v1").projects().locations().builds()
        operation = self._google.call(
            builds.create(parent=self._choices.place, body=build(self._choices))
        )
        number = operation["metadata"]["build"]["id"]

        def ended() -> dict[str, Any] | None:
            resource = self._google.call(builds.get(name=f"{self._choices.place}/builds/{number}"))
            waiting = resource.get("status") in ("PENDING", "QUEUED", "WORKING")
            return None if waiting else resource

        done = self._google.wait(ended, "the image", _BUILD_S, 5.0)
        if done.get("status") != "SUCCESS":
            raise ControlPlaneError(
                f"the image was not built: {done.get('status')} {done.get('statusDetail', '')}",
                hint=f"its log: {done.get('logUrl', 'Cloud Build in the console')}; or give an "
                "image of your own with --image",
            )
        return "built"

    def delete(self) -> bool:
        """Nothing: it goes with its repository."""
        return False

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._repository.collection.packages().tags()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return f"{self._repository.name}/packages/mlflow/tags/{self._choices.image_tag}"


def build(choices: Choices) -> dict[str, Any]:
    """The order to Cloud Build; it needs no source elsewhere: the recipe is in its script."""
    files = "".join(
        f"cat > {name} <<'{_END}'\n{read_data(name).rstrip()}\n{_END}\n" for name in RECIPE
    )
    script = f"#!/usr/bin/env bash\nset -e\n{files}docker build -t {choices.image_uri} .\n"
    return {
        "steps": [{"name": "gcr.io/cloud-builders/docker", "script": script}],
        "images": [choices.image_uri],
        "serviceAccount": f"projects/{choices.project}/serviceAccounts/{choices.builder}",
        "options": {"logging": "CLOUD_LOGGING_ONLY"},
        "tags": ["drillyard-mlflow"],
        "timeout": f"{_BUILD_S:.0f}s",
    }
