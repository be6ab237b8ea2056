"""What a part of the server is to those who make, show and remove it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drillyard.errors import UserError
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import LABELS, Choices

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest


@dataclass(frozen=True, slots=True)
class State:
    """What is there of a part.

    Attributes:
        there: It exists.
        ready: It does its work.
        words: For people.
    """

    there: bool
    ready: bool
    words: str = ""


MISSING = State(False, False, "not there")
_TRIES = 8


class Part(ABC):
    """One resource on Google Cloud, named by the choices alone, with one role on it.

    Args:
        google: Makes the calls.
        choices: Names and sizes.
    """

    title: str
    keeps_data = True
    """Survives ``down``."""
    role = ""
    """Role that ``member`` has on it."""

    def __init__(self, google: Google, choices: Choices) -> None:
        self._google, self._choices = google, choices

    @abstractmethod
    def ensure(self) -> str:
        """Creates or repairs it and waits until it is ready; returns what was done."""

    @property
    @abstractmethod
    def collection(self) -> Resource:
        """Google's client of all resources of its kind."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name, as its API takes it."""

    @property
    def address(self) -> dict[str, str]:
        """The parameters of a request that name it."""
        return {"name": self.name}

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.title

    @property
    def member(self) -> str:
        """Who has the role: the account of the server."""
        return f"serviceAccount:{self._choices.account}"

    def look(self) -> State:
        """Returns what is there; changes nothing."""
        resource = self.current()
        return MISSING if resource is None else self.state(resource)

    def state(self, resource: dict[str, Any]) -> State:
        """Returns how a resource that is there is."""
        return State(True, self.granted(), self.name.rpartition("/")[2])

    def delete(self) -> bool:
        """Removes it and waits until it is gone; False when it was not there."""
        resource = self.current()
        if resource is None:
            return False
        self.must_be_ours(resource)
        self.remove()
        return True

    def remove(self) -> None:
        """Removes what is there and ours."""
        self._google.find(self.collection.delete(**self.address))

    def current(self) -> dict[str, Any] | None:
        """Returns the resource, or None."""
        return self._google.find(self.collection.get(**self.address))

    def gone(self, timeout_s: float = 300.0) -> None:
        """Waits until it is gone."""
        self._google.wait(
            lambda: True if self.current() is None else None,
            f"the end of the {self.title}",
            timeout_s,
        )

    def must_be_ours(self, resource: dict[str, Any]) -> None:
        """Refuses a resource of the same name that is not ours; see ``must_be_ours``."""
        must_be_ours(self.called, resource.get("labels"))

    # -- its role -----------------------------------------------------------------------------

    def granted(self) -> bool:
        """Returns True if the member has the role."""
        return policies.has(self._google.call(self.policy()), self.role, self.member)

    def grant(self) -> bool:
        """Gives the member the role; returns False if it had it."""
        return self.change_policy(lambda policy: policies.give(policy, self.role, [self.member]))

    def change_policy(self, change: Callable[[policies.Policy], bool]) -> bool:
        """Changes its policy; what others wrote meanwhile is kept.

        Args:
            change: Changes a policy; returns False if there is nothing to change.

        Returns:
            True if it was changed.
        """
        for left in reversed(range(_TRIES)):
            policy = self._google.call(self.policy())
            if not change(policy):
                break
            try:
                self._google.call(self.set_policy(policy))
                return True
            except Exists:  # another writer was first: its etag is newer
                if not left:
                    raise
        return False

    def policy(self) -> HttpRequest:
        """Makes the request that reads its policy."""
        return self.collection.getIamPolicy(resource=self.name, options_requestedPolicyVersion=3)

    def set_policy(self, policy: policies.Policy) -> HttpRequest:
        """Makes the request that writes its policy."""
        return self.collection.setIamPolicy(resource=self.name, body={"policy": policy})


def must_be_ours(what: str, labels: Mapping[str, object] | None) -> None:
    """Refuses to touch a resource of the same name that is not ours.

    Raises:
        UserError: It lacks our label.
    """
    if not LABELS.items() <= (labels or {}).items():
        raise UserError(
            f"{what} exists, and drillyard did not make it",
            hint="choose another --name; or, if it is to be used, label it managed-by=drillyard",
        )


def covers(actual: object, wanted: object) -> bool:
    """Returns True if what is there has everything that is wanted; more is fine."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            covers(actual.get(k), v) for k, v in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(covers(a, w) for a, w in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted) or (wanted in (False, None) and actual in (False, None))
