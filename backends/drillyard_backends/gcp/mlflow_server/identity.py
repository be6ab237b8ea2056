"""Switched-on APIs, the accounts that server and builder are, and their roles in the project."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from drillyard.errors import UserError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import Choices
from drillyard_backends.gcp.mlflow_server.part import Part, State

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

SERVICES = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
)
_OURS = "made by drillyard"


class Services(Part):
    """The APIs that the other parts need. They stay switched on: others may use them by then."""

    title = "APIs"

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._google.api("serviceusage", "v1").services()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return f"projects/{self._choices.project}"

    def look(self) -> State:
        """What is there."""
        off = self._off()
        return State(not off, not off, f"off: {', '.join(off)}" if off else "switched on")

    def ensure(self) -> str:
        """Switch on what is off."""
        off = self._off()
        if not off:
            return "kept"
        request = self.collection.batchEnable(parent=self.name, body={"serviceIds": off})
        operations = self._google.api("serviceusage", "v1").operations()
        self._google.finish(self._google.call(request), operations, "switching on APIs", 300.0)
        return f"switched on: {', '.join(off)}"

    def delete(self) -> bool:
        """Nothing: they are not ours alone."""
        return False

    def _off(self) -> list[str]:
        names = [f"{self.name}/services/{name}" for name in SERVICES]
        listed = self._google.call(self.collection.batchGet(parent=self.name, names=names))
        on = {
            service["name"].rpartition("/")[2]
            for service in listed.get("services", [])
            if service.get("state") == "ENABLED"
        }
        return [name for name in SERVICES if name not in on]


class Account(Part):
    """A service account, with its roles in the project.

    Args:
        google: Makes the calls.
        choices: For the project.
        email: Address of the account.
        what: It does.
        role: That it holds in the project.
    """

    def __init__(self, google: Google, choices: Choices, email: str, what: str, role: str) -> None:
        super().__init__(google, choices)
        self._email, self._what, self.role = email, what, role
        self.title = f"account of the {what}"

    def state(self, resource: dict[str, Any]) -> State:
        """See ``Part``."""
        ready = self.granted()
        return State(True, ready, self._email if ready else f"{self._email} lacks {self.role}")

    def ensure(self) -> str:
        """Make it, and give it its role."""
        resource = self.current()
        if resource is not None:
            self.must_be_ours(resource)
        else:
            body = {
                "accountId": self._email.partition("@")[0],
                "serviceAccount": {
                    "displayName": f"drillyard MLflow {self._what}",
                    "description": f"{self._what.capitalize()} of an MLflow server; {_OURS}.",
                },
            }
            with contextlib.suppress(Exists):  # the first answer was lost
                project = f"projects/{self._choices.project}"
                self._google.call(self.collection.create(name=project, body=body))
        changed = self.grant()
        return "made" if resource is None else "given its role" if changed else "kept"

    def remove(self) -> None:
        """Removes it, and its role first: Google would keep that for ``deleted:…``."""
        self.change_policy(lambda policy: policies.take(policy, [self.member], self.role))
        super().remove()

    def must_be_ours(self, resource: dict[str, Any]) -> None:
        """See ``Part``."""
        if _OURS not in resource.get("description", ""):
            raise UserError(
                f"the service account {self._email} exists, and drillyard did not make it",
                hint="choose another --name",
            )

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._google.api("iam", "v1").projects().serviceAccounts()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return f"projects/{self._choices.project}/serviceAccounts/{self._email}"

    @property
    def member(self) -> str:
        """See ``Part``."""
        return f"serviceAccount:{self._email}"

    def policy(self) -> HttpRequest:
        """Makes the request that reads the policy of the project."""
        projects = self._google.api("cloudresourcemanager", "v1").projects()
        body = {"options": {"requestedPolicyVersion": 3}}
        return projects.getIamPolicy(resource=self._choices.project, body=body)

    def set_policy(self, policy: policies.Policy) -> HttpRequest:
        """Makes the request that writes the policy of the project."""
        projects = self._google.api("cloudresourcemanager", "v1").projects()
        return projects.setIamPolicy(resource=self._choices.project, body={"policy": policy})


def project_number(google: Google, project: str) -> str:
    """The number of a project: part of the server's address.

    Raises:
        UserError: There is no such project, or we may not see it.
    """
    resource = google.find(
        google.api("cloudresourcemanager", "v1").projects().get(projectId=project)
    )
    if resource is None:
        raise UserError(f"no project {project!r}", hint="gcloud projects list")
    return str(resource["projectNumber"])
