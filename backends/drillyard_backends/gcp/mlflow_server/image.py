"""The image that the server runs: built in the project from three files of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, RECIPE, Choices, read_data
from drillyard_backends.gcp.mlflow_server.part import MISSING, State, must_be_ours

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

ROLE = "roles/artifactregistry.writer"
_BUILD_S = 1800.0
_END = "END-OF-THE-FILE-THAT-DRILLYARD-WROTE"


class Repository:
    """Where the image is kept."""

    title = "repository of images"
    keeps_data = True

    def __init__(self, google: Google, choices: Choices) -> None:
        self._google, self._choices = google, choices

    def look(self) -> State:
        """What is there."""
        if self._current() is None:
            return MISSING
        ready = policies.has(self._google.call(self._read()), ROLE, self._member)
        return State(True, ready, self._choices.name)

    def ensure(self) -> str:
        """Make it, and let the builder write to it."""
        resource, done = self._current(), "kept"
        if resource is None:
            body = {"format": "DOCKER", "labels": LABELS, "description": "MLflow for drillyard"}
            try:
                operation = self._google.call(
                    self._repositories.create(
                        parent=self._choices.place, repositoryId=self._choices.name, body=body
                    )
                )
                operations = self._locations.operations()
                self._google.finished(
                    lambda: self._google.call(operations.get(name=operation["name"])),
                    "the repository",
                    300.0,
                )
            except Exists:
                pass  # the first answer was lost
            resource = self._google.wait(self._current, "the repository", 300.0)
            done = "made"
        must_be_ours(f"the repository {self._choices.name}", resource.get("labels"))
        policies.ensure(self._google, self._read, self._write, [(ROLE, self._member)])
        return done

    def delete(self) -> bool:
        """Remove it with its images."""
        resource = self._current()
        if resource is None:
            return False
        must_be_ours(f"the repository {self._choices.name}", resource.get("labels"))
        self._google.find(self._repositories.delete(name=self.name))
        self._google.wait(
            lambda: True if self._current() is None else None, "the end of the repository", 300.0
        )
        return True

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self._choices.place}/repositories/{self._choices.name}"

    @property
    def _locations(self) -> Resource:
        return self._google.api("artifactregistry", "v1").projects().locations()

    @property
    def _repositories(self) -> Resource:
        return self._locations.repositories()

    @property
    def _member(self) -> str:
        return f"serviceAccount:{self._choices.builder}"

    def _current(self) -> dict[str, Any] | None:
        return self._google.find(self._repositories.get(name=self.name))

    def _read(self) -> HttpRequest:
        return self._repositories.getIamPolicy(
            resource=self.name, options_requestedPolicyVersion=3
        )

    def _write(self, policy: policies.Policy) -> HttpRequest:
        return self._repositories.setIamPolicy(resource=self.name, body={"policy": policy})


class Image:
    """The image, named after its recipe: another recipe is another image."""

    title = "image"
    keeps_data = True

    def __init__(self, google: Google, choices: Choices, repository: Repository) -> None:
        self._google, self._choices, self._repository = google, choices, repository

    def look(self) -> State:
        """What is there."""
        there = self._current() is not None
        return State(there, there, self._choices.image_uri) if there else MISSING

    def ensure(self) -> str:
        """Build it, unless it is there."""
        if self._current() is not None:
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

    def _current(self) -> dict[str, Any] | None:
        tags = (
            self._google.api("artifactregistry", "v1")
            .projects()
            .locations()
            .repositories()
            .packages()
            .tags()
        )
        name = f"{self._repository.name}/packages/mlflow/tags/{self._choices.image_tag}"
        return self._google.find(tags.get(name=name))


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
