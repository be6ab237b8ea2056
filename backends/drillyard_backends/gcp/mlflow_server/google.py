"""Calls of Google's APIs for the parts: translates errors and repeats calls.

Every answer may be lost, so each call is repeated a few times, and every part takes "exists" and
"missing" as success. Rights and enabled APIs reach Google's servers with a delay: a request that
is refused for that reason is repeated for two minutes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from drillyard.errors import ControlPlaneError, DrillyardError, InfrastructureError, UserError
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.optional_packages import install
from drillyard_backends.gcp.errors import too_many
from drillyard_backends.gcp.mlflow_server.transport import RequestsHttp

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.errors import HttpError
    from googleapiclient.http import HttpRequest

T = TypeVar("T")
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_REPEATS = 5
_SETTLE_S = 120.0
_SETTLE_POLL_S = 5.0
_DISABLED = "SERVICE_DISABLED"
_LOGIN = "gcloud auth application-default login"


class Exists(Exception):
    """A resource of that name exists. It is caught inside the package."""


class Google:
    """The APIs of one project, one call at a time.

    Args:
        project: Id of the project, for messages.
        clock: Clock for waiting.
    """

    def __init__(self, project: str, clock: Clock = SYSTEM) -> None:
        self.project = project
        self.clock = clock
        self.patient = False
        """True once something was created: a refusal may only be a delay."""
        self._transport: RequestsHttp | None = None
        self._services: dict[str, Resource] = {}

    def api(self, name: str, version: str) -> Resource:
        """Returns a client of one API, from the documents that come with Google's library.

        Raises:
            UserError: The library or a login is missing.
        """
        key = f"{name}.{version}"
        if key not in self._services:
            try:
                from googleapiclient.discovery import build
            except ImportError as error:
                raise UserError(
                    f"Google's client library is not installed: {error.name}",
                    hint=install("gcp"),
                ) from error
            self._services[key] = build(
                name, version, http=self._http(), static_discovery=True, cache_discovery=False
            )
        return self._services[key]

    def _http(self) -> RequestsHttp:
        """Returns a connection with our credentials.

        Raises:
            UserError: You are not logged in.
        """
        if self._transport is None:
            import google.auth
            from google.auth.exceptions import DefaultCredentialsError

            try:
                credentials, _ = google.auth.default(scopes=SCOPES)
            except DefaultCredentialsError as error:
                raise UserError(
                    f"you are not logged in to Google Cloud: {error}", hint=_LOGIN
                ) from error
            self._transport = RequestsHttp(credentials)
        return self._transport

    def call(self, request: HttpRequest) -> dict[str, Any]:
        """Executes a request.

        Raises:
            Exists: 409.
            UserError: A right is missing, or the request is not possible.
            ControlPlaneError: Google's API cannot be reached, or fails again and again.
        """
        answer = self.find(request)
        if answer is None:
            raise self._error(f"{request.methodId}: not found", request.uri)
        return answer

    def wait(
        self, look: Callable[[], T | None], what: str, timeout_s: float, poll_s: float = 3.0
    ) -> T:
        """Calls a function until it returns something.

        Raises:
            InfrastructureError: The time is over; the same command continues to wait.
        """
        deadline = self.clock.monotonic() + timeout_s
        event = threading.Event()
        while True:
            seen = look()
            if seen is not None:
                return seen
            if self.clock.monotonic() >= deadline:
                raise InfrastructureError(
                    f"{what} is not ready after {timeout_s / 60:.0f} minutes",
                    hint="run the same command again: it continues where this one stopped",
                )
            self.clock.wait(event, poll_s)

    def finish(
        self, operation: dict[str, Any], operations: Resource, what: str, timeout_s: float
    ) -> None:
        """Waits for the end of a long-running operation.

        Args:
            operation: As Google described it first.
            operations: Client of the operations of its API.
            what: What it is about, for messages.
            timeout_s: Longest time in seconds.

        Raises:
            ControlPlaneError: It failed; with Google's message.
        """

        def done() -> dict[str, Any] | None:
            latest = self.call(operations.get(name=operation["name"]))
            return latest if latest.get("done") else None

        ended = operation if operation.get("done") else self.wait(done, what, timeout_s)
        if "error" in ended:
            raise ControlPlaneError(
                f"{what}: {ended['error'].get('message')}",
                hint="correct what the message names, then run the same command again",
            )

    def find(self, request: HttpRequest) -> dict[str, Any] | None:
        """Executes a request; returns None if the resource does not exist."""
        import httplib2
        from google.auth.exceptions import RefreshError, TransportError
        from googleapiclient.errors import HttpError

        def once() -> tuple[dict[str, Any] | None] | None:
            try:
                answer = request.execute(num_retries=_REPEATS)
                return (answer if isinstance(answer, dict) else {},)
            except HttpError as error:
                if error.resp.status == 404:
                    return (None,)
                if error.resp.status == 409:
                    raise Exists(_words(error)) from error
                if _settles(error) and self.patient:
                    unsettled.append(error)
                    return None
                if _disabled(error):
                    return (None,)  # an API that is switched off has nothing to show
                raise self._refused(error, request) from error
            except RefreshError as error:
                raise UserError(
                    f"your login to Google Cloud has expired: {error}", hint=_LOGIN
                ) from error
            except (OSError, httplib2.HttpLib2Error, TransportError) as error:
                raise self._error(f"Google's API does not answer: {error}", "") from error

        unsettled: list[HttpError] = []
        try:
            return self.wait(once, request.methodId, _SETTLE_S, _SETTLE_POLL_S)[0]
        except InfrastructureError as error:
            if not unsettled or isinstance(error, ControlPlaneError):
                raise
            raise self._refused(unsettled[-1], request) from unsettled[-1]

    # -- inside -------------------------------------------------------------------------------

    def _refused(self, error: HttpError, request: HttpRequest) -> DrillyardError:
        words = f"{request.methodId}: {_words(error)}"
        rate = too_many(int(error.resp.status), error.content.decode("utf-8", "replace"))
        if error.resp.status in (401, 403) and not rate:
            return UserError(
                f"project {self.project}: {words}",
                hint="ask for the roles that `up` needs, or let a person with them run it; the "
                "documentation lists them: Run your own MLflow server on Google Cloud",
            )
        if error.resp.status == 400:
            return UserError(words, hint="the message names the invalid value")
        return self._error(words, request.uri)

    @staticmethod
    def _error(words: str, where: str) -> ControlPlaneError:
        return ControlPlaneError(
            f"{words}{f' ({where})' if where else ''}",
            hint="nothing is lost: run the same command again",
        )


def _document(error: HttpError) -> dict[str, Any]:
    try:
        document = json.loads(error.content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return document if isinstance(document, dict) else {}


def _words(error: HttpError) -> str:
    return str(_document(error).get("message") or f"HTTP {error.resp.status}")


def _disabled(error: HttpError) -> bool:
    """Returns True for the answer of an API that is switched off."""
    document = _document(error)
    reasons = {str(d.get("reason")) for d in document.get("details", []) if isinstance(d, dict)}
    reasons |= {str(e.get("reason")) for e in document.get("errors", []) if isinstance(e, dict)}
    return bool({_DISABLED, "accessNotConfigured"} & reasons)


def _settles(error: HttpError) -> bool:
    """Returns True for a refusal that ends a little after the previous resource was created."""
    if _disabled(error):
        return True
    unknown_account = error.resp.status == 400 and "does not exist" in _words(error)
    return unknown_account and "ervice account" in _words(error)
