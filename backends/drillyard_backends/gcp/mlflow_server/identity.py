"""Switched-on APIs, the accounts that server and builder are, and their roles in the project."""

from __future__ import annotations

import contextlib

from drillyard.errors import UserError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import Choices
from drillyard_backends.gcp.mlflow_server.part import MISSING, State

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


class Services:
    """The APIs that the other parts need. They stay switched on: others may use them by then."""

    title = "APIs"
    keeps_data = True

    def __init__(self, google: Google, choices: Choices) -> None:
        self._google = google
        self._parent = f"projects/{choices.project}"

    def look(self) -> State:
        """What is there."""
        off = self._off()
        return State(not off, not off, f"off: {', '.join(off)}" if off else "switched on")

    def ensure(self) -> str:
        """Switch on what is off."""
        off = self._off()
        if not off:
            return "kept"
        usage = self._google.api("serviceusage", "v1")
        operation = self._google.call(
            usage.services().batchEnable(parent=self._parent, body={"serviceIds": off})
        )
        self._google.finished(
            lambda: (
                self._google.call(usage.operations().get(name=operation["name"]))
                if not operation.get("done")
                else operation
            ),
            "switching on APIs",
            300.0,
        )
        return f"switched on: {', '.join(off)}"

    def delete(self) -> bool:
        """Nothing: they are not ours alone."""
        return False

    def _off(self) -> list[str]:
        usage = self._google.api("serviceusage", "v1")
        names = [f"{self._parent}/services/{name}" for name in SERVICES]
        resource = self._google.call(usage.services().batchGet(parent=self._parent, names=names))
        on = {
            one["name"].rpartition("/")[2]
            for one in resource.get("services", [])
            if one.get("state") == "ENABLED"
        }
        return [name for name in SERVICES if name not in on]


class Account:
    """A service account, with its roles in the project.

    Args:
        google: Makes the calls.
        choices: For the project.
        email: Address of the account.
        what: It does.
        role: That it holds in the project.
    """

    keeps_data = True

    def __init__(self, google: Google, choices: Choices, email: str, what: str, role: str) -> None:
        self._google, self._choices = google, choices
        self._email, self._what, self._role = email, what, role
        self.title = f"account of the {what}"

    def look(self) -> State:
        """What is there."""
        if self._current() is None:
            return MISSING
        policy = self._google.call(self._read())
        ready = policies.has(policy, self._role, self._member)
        return State(True, ready, self._email if ready else f"{self._email} lacks {self._role}")

    def ensure(self) -> str:
        """Make it, and give it its role."""
        resource = self._current()
        self._must_be_ours(resource)
        if resource is None:
            iam = self._google.api("iam", "v1")
            body = {
                "accountId": self._email.partition("@")[0],
                "serviceAccount": {
                    "displayName": f"drillyard MLflow {self._what}",
                    "description": f"{self._what.capitalize()} of an MLflow server; {_OURS}.",
                },
            }
            with contextlib.suppress(Exists):  # the first answer was lost
                self._google.call(
                    iam.projects()
                    .serviceAccounts()
                    .create(name=f"projects/{self._choices.project}", body=body)
                )
        changed = policies.ensure(
            self._google, self._read, self._write, [(self._role, self._member)]
        )
        return "made" if resource is None else "given its role" if changed else "kept"

    def delete(self) -> bool:
        """Remove it, and its role first: Google would keep that for ``deleted:…``."""
        resource = self._current()
        if resource is None:
            return False
        self._must_be_ours(resource)
        policies.drop(self._google, self._read, self._write, (self._role, self._member))
        accounts = self._google.api("iam", "v1").projects().serviceAccounts()
        self._google.find(accounts.delete(name=self._name))
        return True

    def _must_be_ours(self, resource: dict[str, str] | None) -> None:
        if resource is not None and _OURS not in resource.get("description", ""):
            raise UserError(
                f"the service account {self._email} exists, and drillyard did not make it",
                hint="choose another --name",
            )

    @property
    def _name(self) -> str:
        return f"projects/{self._choices.project}/serviceAccounts/{self._email}"

    @property
    def _member(self) -> str:
        return f"serviceAccount:{self._email}"

    def _current(self) -> dict[str, str] | None:
        accounts = self._google.api("iam", "v1").projects().serviceAccounts()
        return self._google.find(accounts.get(name=self._name))

    def _read(self) -> object:
        projects = self._google.api("cloudresourcemanager", "v1").projects()
        body = {"options": {"requestedPolicyVersion": 3}}
        return projects.getIamPolicy(resource=self._choices.project, body=body)

    def _write(self, policy: policies.Policy) -> object:
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
