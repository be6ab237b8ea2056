"""Calls of the Compute API: patient, repeatable, waited for by ourselves.

The library's own ``.result()`` polls through a client that it builds itself, and it repeats no
POST at all. So every change is a ``*_unary`` call with a request id of its own, repeated here
(Google answers a repeat as it answered the first), and waited for with the server-side ``wait``.
The id is new for each change, not computed from names: what was deleted may be made again under
its name, and must not be answered with the operation of then. Over processes it is the names that
make a change repeatable.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.errors import Missing, of_operation, retryable, translate
from drillyard_backends.gcp.zones import Place

PATIENCE_S = 60.0
"""How long one call is repeated."""
OPERATION_S = 300.0
"""How long an operation is waited for."""
TIMEOUT_S = 60.0
WAIT_TIMEOUT_S = 150.0
"""The server answers a ``wait`` within two minutes."""
_HARMLESS = ("", "NO_RESULTS_ON_PAGE")
T = TypeVar("T")


def _must_be_whole(what: str, page: Any) -> None:
    items = getattr(page, "items", None)
    scopes = items.items() if isinstance(items, Mapping) else ()
    warned = [("", page), *scopes]
    unread = [f"{w.warning.code} {w.warning.message}".strip() for _, w in warned if _warns(w)]
    unread += [str(one) for one in getattr(page, "unreachables", [])]
    if unread:
        raise ControlPlaneError(
            f"{what}: Google has not listed everything: {'; '.join(unread)[:500]}",
            hint="nothing is taken for gone; the next look asks again",
        )


def _warns(page: Any) -> bool:
    return getattr(page, "warning", None) is not None and page.warning.code not in _HARMLESS


def _content(page: Any) -> list[Any]:
    if hasattr(page, "managed_instances"):
        return list(page.managed_instances)
    items = page.items
    return list(items.items()) if isinstance(items, Mapping) else list(items)


def request_id() -> str:
    """An id for one change, to be kept over its repeats."""
    return str(uuid.uuid4())


class Compute:
    """The clients of one project, made when first used (the import takes a second or two).

    Args:
        project: Id of the project.
        patience_s: How long a call is repeated.
    """

    def __init__(self, project: str, patience_s: float = PATIENCE_S) -> None:
        self.project = project
        self._patience_s = patience_s

    @cached_property
    def v1(self) -> Any:
        """The library's module."""
        from google.cloud import compute_v1

        return compute_v1

    @cached_property
    def _credentials(self) -> Any:
        import google.auth

        return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]

    def client(self, name: str) -> Any:
        """A client by its class's name; one of each.

        Raises:
            SignInRefused: No credentials.
        """
        made: dict[str, Any] = self.__dict__.setdefault("_clients", {})
        if name not in made:
            try:
                made[name] = getattr(self.v1, name)(credentials=self._credentials)
            except Exception as error:
                raise translate(error, "connect to Google Cloud", self.project) from error
        return made[name]

    def managers(self, place: Place) -> Any:
        """The client of managed groups in a place."""
        kind = (
            "RegionInstanceGroupManagersClient"
            if place.regional
            else "InstanceGroupManagersClient"
        )
        return self.client(kind)

    def where(self, place: Place) -> dict[str, str]:
        """The arguments that say where, of every request about a place."""
        key = "region" if place.regional else "zone"
        return {"project": self.project, key: place.name}

    def call(self, what: str, method: Callable[..., T], **request: Any) -> T:
        """Make a request, again while that may help.

        Args:
            what: In words, for errors.
            method: Of a client.
            request: Its fields.

        Raises:
            Missing, Exists, InUse, NoRoom: See ``errors``.
            AccessDenied: Permission, credentials.
            ControlPlaneError: It did not get through.
        """
        retrying = Retrying(
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential_jitter(initial=0.2, max=8.0, jitter=0.5),
            retry=retry_if_exception(retryable),
            reraise=True,
        )
        try:
            return retrying(method, request=request, retry=None, timeout=TIMEOUT_S)
        except Exception as error:
            raise translate(error, what, self.project) from error

    def pages(self, what: str, method: Callable[..., Iterable[T]], **request: Any) -> list[T]:
        """Everything that a listing gives, over all its pages.

        Raises:
            ControlPlaneError: A part could not be read. Google says so in warnings, which the
                library's iterators drop: what is missing then would look as if it were gone.
        """

        def read(**more: Any) -> list[T]:
            listing: Any = method(**more)
            found: list[T] = []
            for page in listing.pages:
                _must_be_whole(what, page)
                found += _content(page)
            return found

        return self.call(what, read, **request)

    def change(
        self, what: str, method: Callable[..., Any], place: Place | None, **request: Any
    ) -> None:
        """Make a change and wait until it is done.

        Args:
            what: In words.
            method: A ``*_unary`` one.
            place: Of the operation; None: global.
            request: Its fields; its id is made here, one for all repeats.

        Raises:
            Missing, Exists, InUse, NoRoom: Also when only the operation says so.
            ControlPlaneError: It failed, or is not done in time.
        """
        operation = self.call(what, method, **{"request_id": request_id(), **request})
        self.wait(what, operation, place)

    def wait(
        self, what: str, operation: Any, place: Place | None, within_s: float = OPERATION_S
    ) -> None:
        """Wait for an operation; its errors are raised.

        Raises:
            ControlPlaneError: It is not done in time, or is not known any more: look at the thing.
        """
        if place is None:
            client, where = self.client("GlobalOperationsClient"), {"project": self.project}
        else:
            kind = "RegionOperationsClient" if place.regional else "ZoneOperationsClient"
            client, where = self.client(kind), self.where(place)
        deadline = time.monotonic() + within_s
        done = self.v1.Operation.Status.DONE
        while operation.status != done:
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"{what}: not done after {within_s:.0f} s")
            try:
                operation = self.call(
                    what,
                    lambda **more: client.wait(**{**more, "timeout": WAIT_TIMEOUT_S}),
                    operation=operation.name,
                    **where,
                )
            except Missing as lost:
                # Operations are kept for a while only: that one is gone says nothing of its thing.
                raise ControlPlaneError(f"{what}: Google no longer knows how it ended") from lost
        error = of_operation(operation.error.errors, what, self.project)
        if error is not None:
            raise error
