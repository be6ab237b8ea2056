"""A machine's view of its own group, over plain REST: the Compute library is not needed there.

The machine's rights are few: to look at its group, to delete itself through it, to delete it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.groups import Stage, stage

ADDRESS = "https://compute.googleapis.com/compute/v1"
INSTANCES = "https://www.googleapis.com/compute/v1"
"""Instances in bodies are named by their whole address, as the listings name them."""
PATIENCE_S = 60.0
_RATE_REASONS = ("rateLimitExceeded", "userRateLimitExceeded")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A machine of the group.

    Attributes:
        name: Its name.
        id: Google's number of it; empty before it was made.
        stage: Where it stands.
    """

    name: str
    id: str
    stage: Stage


class _Again(Exception):
    """An answer that a repeat may improve."""


class InstanceGroupSelf:
    """The group of this machine.

    Args:
        project: Id of the project.
        path: ``zones/Z/NAME`` or ``regions/R/NAME``.
        zone: Of this machine.
        patience_s: How long a call is repeated.
    """

    def __init__(self, project: str, path: str, zone: str, patience_s: float = PATIENCE_S) -> None:
        place, _, name = path.rpartition("/")
        self._root = f"{ADDRESS}/projects/{project}/{place}/instanceGroupManagers/{name}"
        self._instances = f"{INSTANCES}/projects/{project}/zones/{zone}/instances"
        self._patience_s = patience_s
        self.name = name
        self.path = path

    def members(self) -> list[Member] | None:
        """Its machines; None when there is no such group any more."""
        found: list[Member] = []
        page = ""
        while True:
            more = {"pageToken": page} if page else {}
            answer = self._call("POST", "/listManagedInstances", params=more)
            if answer is None:
                return None
            for item in answer.get("managedInstances", []):
                name = item.get("name") or item.get("instance", "").rsplit("/", 1)[-1]
                where = stage(item.get("currentAction", ""), item.get("instanceStatus", ""))
                found.append(Member(name, str(item.get("id", "")), where))
            page = answer.get("nextPageToken", "")
            if not page:
                return found

    def incarnation(self) -> str | None:
        """Google's number of the group: another one when it is made again under its name."""
        answer = self._call("GET", "")
        return None if answer is None else str(answer.get("id", ""))

    def delete_machine(self, name: str) -> bool:
        """Ask for the end of a machine through the group; False when the group is gone."""
        body = {
            "instances": [f"{self._instances}/{name}"],
            "skipInstancesOnValidationError": True,
        }
        return self._call("POST", "/deleteInstances", json=body, busy={}) is not None

    def delete(self) -> bool:
        """Ask for the end of the group with all its machines; False when it is gone."""
        return self._call("DELETE", "", busy={}) is not None

    @cached_property
    def session(self) -> Any:
        """Makes its requests, with the machine's own identity."""
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return AuthorizedSession(google.auth.default(scopes=scopes)[0])

    # -- inside -------------------------------------------------------------------------------

    def _call(
        self, method: str, path: str, busy: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any] | None:
        """A request, again while that may help; None for 404.

        Args:
            method: Of HTTP.
            path: Below the group.
            busy: The answer where Google refuses because of the state of the group (400, 409);
                None: ask again. A delete may be refused because it is under way already. A read
                that is refused has told nothing: taken for an empty group, it would make this
                machine the last one, and the last one deletes the group with all machines.
            **more: Of ``requests``.

        Raises:
            ControlPlaneError: No answer within the patience, or a refusal.
        """
        import requests
        from google.auth import exceptions as auth

        again = (_Again, requests.RequestException, auth.TransportError)
        retrying = Retrying(
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential_jitter(initial=0.2, max=8.0),
            retry=retry_if_exception(lambda error: isinstance(error, again)),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, busy, **more)
        except (*again, auth.GoogleAuthError) as error:
            raise ControlPlaneError(f"{method} {self.name}{path}: {error}") from error

    def _once(
        self, method: str, path: str, busy: dict[str, Any] | None, **more: Any
    ) -> dict[str, Any] | None:
        answer = self.session.request(method, self._root + path, timeout=60, **more)
        if answer.status_code == 404:
            return None
        if answer.status_code < 400:
            return dict(answer.json())
        text = answer.text[:500]
        rate = answer.status_code == 403 and any(reason in text for reason in _RATE_REASONS)
        if answer.status_code == 429 or answer.status_code >= 500 or rate:
            raise _Again(f"{answer.status_code}: {text}")
        if answer.status_code in (400, 409):
            if busy is None:
                raise _Again(f"{answer.status_code}: {text}")
            log.warning("%s %s%s: %s: %s", method, self.name, path, answer.status_code, text)
            return busy
        raise ControlPlaneError(f"{method} {self.name}{path}: {answer.status_code}: {text}")
