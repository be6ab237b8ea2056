"""A machine's view of its own group, over plain REST, so that it needs no Compute library.

The machine may read its group and delete machines whose names begin with its own prefix. IAM
conditions cannot restrict permissions on groups, so the role that ships has none to change them. A
role that has them, as that of earlier versions, is used: then the last machine deletes the group.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.errors import is_refusal, limits_requests
from drillyard_backends.gcp.managed import Stage, stage

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

ADDRESS = "https://compute.googleapis.com/compute/v1"
INSTANCES = "https://www.googleapis.com/compute/v1"
"""Requests name instances by their full address, as listings do."""
PATIENCE_S = 60.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A machine of the group.

    Attributes:
        name: Its name.
        id: Google's number of it; empty before it was created.
        stage: Its stage.
    """

    name: str
    id: str
    stage: Stage


class Instance(TypedDict, total=False):
    """A machine in Google's listing of a group."""

    id: str
    name: str
    instance: str
    currentAction: str
    instanceStatus: str


class Answer(TypedDict, total=False):
    """The fields that are used of Google's answers."""

    id: str
    managedInstances: list[Instance]
    nextPageToken: str


class Forbidden(ControlPlaneError):
    """The machine's identity lacks the permission."""


class _Again(Exception):
    """An answer that is worth a repeat."""


class InstanceGroupSelf:
    """The group of this machine.

    Args:
        project: Id of the project.
        path: ``zones/Z/NAME`` or ``regions/R/NAME``.
        zone: Zone of this machine.
        patience_s: Seconds for which a call is repeated.
    """

    def __init__(self, project: str, path: str, zone: str, patience_s: float = PATIENCE_S) -> None:
        place, _, name = path.rpartition("/")
        self._root = f"{ADDRESS}/projects/{project}/{place}/instanceGroupManagers/{name}"
        self._instances = f"{INSTANCES}/projects/{project}/zones/{zone}/instances"
        self._machines = f"{ADDRESS}/projects/{project}/zones/{zone}/instances"
        self._patience_s = patience_s
        self.name = name
        self.path = path

    def members(self) -> list[Member] | None:
        """Returns its machines; None if the group no longer exists.

        Raises:
            ControlPlaneError: There is no answer, or a page of it is empty. Nothing marks such a
                page as a listing: any JSON document without machines looks like it. And this
                machine runs, so that its group has at least one.
        """
        members: list[Member] = []
        page = ""
        while True:
            query = {"pageToken": page} if page else {}
            answer = self._call("POST", "/listManagedInstances", params=query)
            if answer is None:
                return None
            listed = answer.get("managedInstances", [])
            if not listed:
                raise ControlPlaneError(
                    f"{self.name}: Google lists no machines, and this one runs"
                )
            for item in listed:
                name = item.get("name") or item.get("instance", "").rsplit("/", 1)[-1]
                status = stage(item.get("currentAction", ""), item.get("instanceStatus", ""))
                members.append(Member(name, str(item.get("id", "")), status))
            page = answer.get("nextPageToken", "")
            if not page:
                return members

    def incarnation(self) -> str | None:
        """Returns Google's number of the group; a new group of the same name has another one."""
        answer = self._call("GET", "")
        if answer is not None and not answer.get("id"):
            raise ControlPlaneError(f"{self.name}: the answer is not a group")
        return None if answer is None else str(answer["id"])

    def delete_machine(self, name: str) -> bool:
        """Requests the end of a machine; returns False if the group or the machine is gone.

        Raises:
            Forbidden: Neither the group nor the machine itself may be changed.
        """
        body: JsonObject = {
            "instances": [f"{self._instances}/{name}"],
            "skipInstancesOnValidationError": True,
        }
        try:
            return self._change("POST", "/deleteInstances", body)
        except Forbidden as error:
            log.info("deleting this machine itself, because its group refused: %s", error)
        # The group does not make it again: it was made with DO_NOTHING as the action on a failure.
        return self._change("DELETE", f"{self._machines}/{name}")

    def delete(self) -> bool:
        """Requests the end of the group with all its machines; returns False if it is gone.

        Raises:
            Forbidden: The machine may not delete its group.
        """
        return self._change("DELETE", "")

    @cached_property
    def session(self) -> AuthorizedSession:
        """Session for its requests, with the machine's own identity."""
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return AuthorizedSession(google.auth.default(scopes=scopes)[0])

    # -- inside -------------------------------------------------------------------------------

    def _change(self, method: str, path: str, body: JsonObject | None = None) -> bool:
        # Repeats of one request carry its id, so that Google does it once.
        params = {"requestId": str(uuid.uuid4())}
        return self._call(method, path, busy={}, params=params, json=body) is not None

    def _call(
        self,
        method: str,
        path: str,
        busy: Answer | None = None,
        params: dict[str, str] | None = None,
        json: JsonObject | None = None,
    ) -> Answer | None:
        """Sends a request, and repeats it while that may help; returns None for 404.

        Args:
            method: HTTP method.
            path: Path below the group, or a whole address.
            busy: The result if Google refuses because of the group's state (400, 409). None
                repeats the request. A delete may be refused because it is already under way. A
                refused read says nothing: if it were taken for an empty group, this machine
                would be the last one and would delete the group with all machines.
            params: Query of the request.
            json: Body of the request.

        Raises:
            Forbidden: The permission is missing.
            ControlPlaneError: There is no answer in time, or another refusal.
        """
        import requests
        from google.auth import exceptions as auth

        again = (_Again, requests.RequestException, auth.TransportError)
        retrying = Retrying(
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential(0.2, max=8.0) + wait_random(0.0, 1.0),
            retry=retry_if_exception(lambda error: isinstance(error, again)),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, busy, params, json)
        except (*again, auth.GoogleAuthError) as error:
            raise ControlPlaneError(f"{method} {self.name}{path}: {error}") from error

    def _once(
        self,
        method: str,
        path: str,
        busy: Answer | None,
        params: dict[str, str] | None,
        json: JsonObject | None,
    ) -> Answer | None:
        url = path if path.startswith("https://") else self._root + path
        answer = self.session.request(method, url, timeout=60, params=params, json=json)
        text = answer.text[:500]
        if answer.status_code == 404 and is_refusal(answer):
            return None
        if answer.status_code < 400:
            document: Answer | None = answer.json()
            if not isinstance(document, dict):
                raise _Again(f"not Google's answer: {text}")
            return document
        if answer.status_code >= 500 or limits_requests(answer):
            raise _Again(f"{answer.status_code}: {text}")
        if answer.status_code in (400, 409):
            if busy is None:
                raise _Again(f"{answer.status_code}: {text}")
            log.warning("%s %s%s: %s: %s", method, self.name, path, answer.status_code, text)
            return busy
        kind = Forbidden if answer.status_code == 403 else ControlPlaneError
        raise kind(f"{method} {self.name}{path}: {answer.status_code}: {text}")
