"""Calls of the Compute API: repeated while that helps, and waited for.

The library's own ``.result()`` polls through a client that it builds itself, and it repeats no
POST at all. So every change is a ``*_unary`` call with its own request id. It is repeated here
(Google answers a repeat as it answered the first request), and waited for with the server-side
``wait``. The id is new for each change and not computed from names: a deleted resource may be
created again under its name, and must not get the answer of the old operation. Across processes,
the names make a change repeatable.
"""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.errors import Missing, of_operation, retryable, translate
from drillyard_backends.gcp.zones import Place

if TYPE_CHECKING:
    from google.api_core.page_iterator import Page
    from google.auth.credentials import Credentials
    from google.cloud.compute_v1 import Operation

PATIENCE_S = 60.0
"""Seconds for which one call is repeated."""
OPERATION_S = 300.0
"""Seconds to wait for an operation."""
TIMEOUT_S = 60.0
SERVER_WAIT_S = 120.0
"""The server answers a ``wait`` within two minutes."""
WAIT_TIMEOUT_S = 150.0
POLL_S = 2.0
"""Seconds between two questions about an operation, if there is no time for a ``wait``."""
_HARMLESS = ("", "NO_RESULTS_ON_PAGE")
T = TypeVar("T")


def _must_be_whole(what: str, page: Page) -> None:
    if not getattr(page, "kind", "none"):
        # Every listing of Google names its kind. Without it a page of a proxy would be a listing
        # with nothing in it, and its machines would count as gone.
        raise ControlPlaneError(f"{what}: Google's answer is not a listing")
    items = getattr(page, "items", None)
    scopes = items.items() if isinstance(items, Mapping) else ()
    warned = [("", page), *scopes]
    unread = [f"{w.warning.code} {w.warning.message}".strip() for _, w in warned if _warns(w)]
    unread += [str(name) for name in getattr(page, "unreachables", [])]
    if unread:
        raise ControlPlaneError(
            f"{what}: Google did not list everything: {'; '.join(unread)[:500]}",
            hint="nothing was decided; run the same command again",
        )


def _warns(page: Page) -> bool:
    return getattr(page, "warning", None) is not None and page.warning.code not in _HARMLESS


def _content(page: Page) -> Iterable[Any]:
    if hasattr(page, "managed_instances"):
        return cast(Iterable[Any], page.managed_instances)
    # A listing of all zones maps each to its part.
    return cast(Iterable[Any], getattr(page.items, "items", lambda: page.items)())


def request_id() -> str:
    """Returns an id for one change and its repeats."""
    return str(uuid.uuid4())


class Compute:
    """The clients of one project, created on first use (the import takes a second or two).

    Args:
        project: Id of the project.
        patience_s: Seconds for which a call is repeated.
    """

    def __init__(self, project: str, patience_s: float = PATIENCE_S) -> None:
        self.project = project
        self._patience_s = patience_s
        self._clients: dict[str, object] = {}

    @cached_property
    def v1(self) -> ModuleType:
        """Module of the library."""
        return importlib.import_module("google.cloud.compute_v1")

    @cached_property
    def _credentials(self) -> Credentials:
        import google.auth

        return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]

    def _method(self, name: str, place: Place | None) -> Callable[..., Any]:
        """Returns a method of a client: ``Instances.get``; a region has its own for groups."""
        kind, _, method = name.partition(".")
        if place is not None and place.regional and kind == "InstanceGroupManagers":
            kind = f"Region{kind}"
        if kind not in self._clients:
            try:
                client = getattr(self.v1, f"{kind}Client")(credentials=self._credentials)
            except Exception as error:
                raise translate(error, "connect to Google Cloud", self.project) from error
            self._clients[kind] = client
        return cast(Callable[..., Any], getattr(self._clients[kind], method))

    def call(self, what: str, method: str, place: Place | None, **request: object) -> Any:
        """Makes a request, and repeats it while that may help.

        Args:
            what: Description of the request, for errors.
            method: Client and method: ``Instances.get``.
            place: Zone or region of the request; None: the whole project.
            request: Further fields of the request.

        Raises:
            Missing, Exists, InUse, NoRoom: See ``errors``.
            AccessDenied: Permission or credentials are missing.
            ControlPlaneError: The request failed.
        """
        return self._repeated(what, self._method(method, place), place, request)

    def _repeated(
        self,
        what: str,
        send: Callable[..., T],
        place: Place | None,
        request: dict[str, object],
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        if place is not None:
            request["region" if place.regional else "zone"] = place.name
        request["project"] = self.project
        retrying = Retrying(
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential(0.2, max=8.0) + wait_random(0.0, 0.5),
            retry=retry_if_exception(retryable),
            reraise=True,
        )
        try:
            return retrying(send, request=request, retry=None, timeout=timeout_s)
        except Exception as error:
            raise translate(error, what, self.project) from error

    def pages(self, what: str, method: str, place: Place | None, **request: object) -> list[Any]:
        """Returns everything that a listing has, over all its pages.

        Raises:
            ControlPlaneError: A part could not be read. Google reports it in warnings, which the
                library's iterators drop: the missing part would look as if it were gone.
        """
        send = self._method(method, place)

        def read(**more: object) -> list[Any]:
            items: list[Any] = []
            for page in send(**more).pages:
                _must_be_whole(what, page)
                items += _content(page)
            return items

        return self._repeated(what, read, place, request)

    def change(self, what: str, method: str, place: Place | None, **request: object) -> None:
        """Makes a change and waits until it is done.

        Args:
            what: Description of the change.
            method: Client and ``*_unary`` method.
            place: Place of the operation; None if it is global.
            request: Fields of the request; one id for all repeats is added.

        Raises:
            Missing, Exists, InUse, NoRoom: The request or its operation failed.
            ControlPlaneError: The change failed, or is not done in time.
        """
        self.wait(what, self.call(what, method, place, request_id=request_id(), **request), place)

    def wait(
        self, what: str, operation: Operation, place: Place | None, within_s: float = OPERATION_S
    ) -> None:
        """Waits for an operation; raises its errors.

        Raises:
            ControlPlaneError: It is not done in time, or no longer known: read the resource.
        """
        kind = "Global" if place is None else "Region" if place.regional else "Zone"
        deadline = time.monotonic() + within_s
        done = self.v1.Operation.Status.DONE
        while operation.status != done:
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"{what}: not done after {within_s:.0f} s")
            left = deadline - time.monotonic()
            # The server holds a `wait` for up to two minutes: too long if less time is left.
            patient = left >= SERVER_WAIT_S
            send = self._method(f"{kind}Operations.{'wait' if patient else 'get'}", place)
            limit_s = WAIT_TIMEOUT_S if patient else TIMEOUT_S
            try:
                named: dict[str, object] = {"operation": operation.name}
                operation = self._repeated(what, send, place, named, limit_s)
            except Missing as lost:
                # Google keeps operations only for a while: a missing one proves nothing.
                raise ControlPlaneError(f"{what}: Google no longer knows how it ended") from lost
            if not patient and operation.status != done:
                time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
        error = of_operation(operation.error.errors, what, self.project)
        if error is not None:
            raise error
