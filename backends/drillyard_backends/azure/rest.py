"""Plain REST calls to Azure, with our sign-in and with limits for how long a call may take.

azure-ai-ml would do for most of them, but it leaves out of its listings what it cannot read, adds
facts about the git repository of the current folder to a job, and starts a thread for each change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError
from drillyard_backends.azure.errors import seam
from drillyard_backends.azure.login import AGENT, credential

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import HTTPPolicy, SansIOHTTPPolicy

ARM = "https://management.azure.com"
_SCOPE = f"{ARM}/.default"
VERSION = "2024-10-01"
"""Version of Azure ML's API, unless a call names another one."""
CONNECT_S, READ_S = 10.0, 60.0
"""How long one try may wait for a connection, and for each part of an answer."""
LONGEST_PAUSE_S = 60.0
"""Longest pause between two tries, whatever ``Retry-After`` says."""
LONGEST_CALL_S = 180.0
"""How long all tries of one call take together, about."""


def section(document: JsonObject, name: str) -> JsonObject:
    """Returns an object inside an answer; a missing one is empty.

    Raises:
        ControlPlaneError: It is not an object. Nothing may be concluded from such an answer.
    """
    value = document.get(name) or {}
    if not isinstance(value, dict):
        raise ControlPlaneError(f"unexpected answer of Azure: {name} is not an object")
    return value


def _unread(what: str, why: str) -> ControlPlaneError:
    return ControlPlaneError(
        f"{what}: unexpected answer of Azure: {why}",
        hint="is there a proxy between this machine and Azure, or a page to sign in?",
    )


class Rest:
    """Sends requests; made once for each workspace, used by several threads."""

    def ask(self, path: str, version: str = VERSION, host: str = ARM, **query: str) -> JsonObject:
        """Read one document.

        Raises:
            Missing: It is not there.
        """
        what = f"ask for {path.rpartition('/')[2]}"
        return self._send("GET", f"{host}{path}", what, {"api-version": version, **query})

    def pages(self, path: str, version: str = VERSION, **query: str) -> Iterator[JsonObject]:
        """Read every element of a listing, over all its pages.

        Raises:
            ControlPlaneError: A page could not be read, or leads somewhere else.
        """
        what = f"list {path.rpartition('/')[2]}"
        page = self._send("GET", f"{ARM}{path}", what, {"api-version": version, **query})
        seen: set[str] = set()
        while True:
            elements = page.get("value")
            if not isinstance(elements, list):
                # Not an empty list: its machines would count as gone.
                raise _unread(what, "it has no list")
            for element in elements:
                if not isinstance(element, dict):
                    raise _unread(what, "an element of the list is not an object")
                yield element
            following = str(page.get("nextLink") or "")
            if not following:
                return
            # The token goes with the request: never to another host.
            if not following.startswith(f"{ARM}/") or following in seen:
                raise ControlPlaneError(f"{what}: the next page would be {following[:200]}")
            seen.add(following)
            page = self._send("GET", following, what, {})

    def put(
        self, path: str, document: Mapping[str, object], *, absent: bool = False
    ) -> JsonObject:
        """Make something, or change it.

        Args:
            path: Path of the resource.
            document: What it is to be.
            absent: Ask for a refusal if it is there; not every service honours that.

        Raises:
            Exists: Another one of that name is there.
        """
        headers = {"If-None-Match": "*"} if absent else None
        what = f"make {path.rpartition('/')[2]}"
        return self._send("PUT", f"{ARM}{path}", what, {"api-version": VERSION}, document, headers)

    def post(self, path: str, document: Mapping[str, object] | None = None) -> JsonObject:
        """An action: a question that carries secrets, or a cancel."""
        what = f"ask for {path.rpartition('/')[2]}"
        return self._send("POST", f"{ARM}{path}", what, {"api-version": VERSION}, document)

    def delete(self, path: str, **query: str) -> None:
        """Ask for the end of something.

        Raises:
            Missing: It is gone.
        """
        what = f"delete {path.rpartition('/')[2]}"
        self._send("DELETE", f"{ARM}{path}", what, {"api-version": VERSION, **query})

    def score(
        self, url: str, key: str, deployment: str, question: Mapping[str, object]
    ) -> JsonObject:
        """Ask one deployment of an endpoint, whichever has the traffic."""
        with seam("ask the endpoint"):
            from azure.core.rest import HttpRequest

            headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": deployment}
            request = HttpRequest("POST", url, headers=headers, json=dict(question))
            answer = self._plain.send_request(request)
            answer.raise_for_status()
            return dict(answer.json())

    def _send(
        self,
        method: str,
        url: str,
        what: str,
        query: Mapping[str, str],
        document: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        with seam(what):
            from azure.core.rest import HttpRequest

            body = None if document is None else dict(document)
            request = HttpRequest(
                method, url, params=dict(query) or None, json=body, headers=headers
            )
            answer = self._line.send_request(request)
            answer.raise_for_status()
            if not answer.content and method != "GET":
                return {}  # it was accepted; there is nothing to say
            try:
                content = answer.json()
            except ValueError as error:
                raise _unread(what, "it is not JSON") from error
            if not isinstance(content, dict):
                raise _unread(what, "it is not an object")
            return dict(content)

    @cached_property
    def _line(self) -> PipelineClient:
        return self._pipeline(signed_in=True)

    @cached_property
    def _plain(self) -> PipelineClient:
        """Without our own sign-in, which the endpoint must not see."""
        return self._pipeline(signed_in=False)

    @staticmethod
    def _pipeline(*, signed_in: bool) -> PipelineClient:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import (
            BearerTokenCredentialPolicy,
            RequestIdPolicy,
            RetryPolicy,
            UserAgentPolicy,
        )
        from azure.core.pipeline.transport import RequestsTransport

        class Tries(RetryPolicy):  # type: ignore[misc, unused-ignore]
            """Waits as long as the service asks for, up to a limit.

            A wait that would outlast the call is not begun: the service's answer is the result,
            and not a timeout, which would look like a broken network.
            """

            def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
                ends_at = time.monotonic() + LONGEST_CALL_S
                return {**super().configure_retries(options), "ends_at": ends_at}

            def increment(self, settings: dict[str, Any], response: Any = None, error: Any = None):  # type: ignore[no-untyped-def]
                again = super().increment(settings, response, error)
                if not again or error is not None:
                    return again
                pause_s = self.get_retry_after(response) or self.get_backoff_time(settings)
                return time.monotonic() + pause_s < settings["ends_at"]

            def get_retry_after(self, response: PipelineResponse) -> float | None:
                pause_s = super().get_retry_after(response)
                return None if pause_s is None else min(float(pause_s), LONGEST_PAUSE_S)

        policies: list[HTTPPolicy | SansIOHTTPPolicy] = [
            # Microsoft's support finds a request by its id; all tries of a call have the same.
            RequestIdPolicy(),
            UserAgentPolicy(AGENT),
            Tries(timeout=int(LONGEST_CALL_S)),
        ]
        if signed_in:
            policies.append(BearerTokenCredentialPolicy(credential(), _SCOPE))
        transport = RequestsTransport(connection_timeout=CONNECT_S, read_timeout=READ_S)
        return PipelineClient(ARM, policies=policies, transport=transport)
