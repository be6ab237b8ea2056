"""Reads the pages of a provider's public price interface, with the standard library alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from drillyard.documents.json_types import JsonObject, as_list, as_object
from drillyard.errors import ConfigError, ControlPlaneError

TIMEOUT_S = 30.0
ATTEMPTS, MOST_PAGES = 5, 200
MOST_BYTES = 64 * 2**20
"""Largest page that is read."""
_AGAIN = {408, 429, 500, 502, 503, 504}


class _Busy(Exception):
    """The provider asks to try again."""


def base(variable: str, default: str) -> str:
    """Returns the address of an interface: of an environment variable, or the provider's own."""
    return os.environ.get(variable, default).rstrip("/")


def entries(
    address: str,
    key: str,
    following: Callable[[JsonObject], str | None],
    headers: Mapping[str, str] | None = None,
) -> Iterator[JsonObject]:
    """Yields the entries of all pages.

    Args:
        address: The first page.
        key: Name of the list of entries in a page.
        following: Returns the address of the page after a page; None after the last one.
        headers: Sent with each request; a key belongs here, so that no address contains it.

    Raises:
        ConfigError: The provider refuses the request: the key is missing or wrong.
        ControlPlaneError: There is no answer, none that can be read, or a list without an end.
    """
    for _ in range(MOST_PAGES):
        page = _page(address, headers or {})
        yield from map(as_object, as_list(page.get(key)))
        after = following(page)
        if after is None:
            return
        address = after
    raise ControlPlaneError(
        f"more than {MOST_PAGES} pages of prices", hint="try again later; nothing was written"
    )


def _page(address: str, headers: Mapping[str, str]) -> JsonObject:
    host = address.partition("?")[0]
    try:
        return _read(Request(address, headers={"Accept": "application/json", **headers}))
    except _Busy as error:
        raise ControlPlaneError(f"{host}: {error}", hint="try again later") from None
    except (URLError, OSError, ValueError) as error:
        raise ControlPlaneError(
            f"{host} does not answer with prices: {error}",
            hint="is there a way to the internet, or a proxy in between?",
        ) from None


@retry(
    retry=retry_if_exception_type(_Busy),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_exponential(0.1, max=10) + wait_random(0, 0.1),
    reraise=True,
)
def _read(request: Request) -> JsonObject:
    if not request.full_url.startswith(("https://", "http://")):
        raise ValueError("not an address of the web")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            document: object = json.loads(response.read(MOST_BYTES))
    except HTTPError as error:
        text = _message(error)
        if error.code in _AGAIN:
            raise _Busy(f"HTTP {error.code}: {text}") from None
        raise ConfigError(
            f"HTTP {error.code}: {text}", hint="is the key right, and its API enabled?"
        ) from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def _message(error: HTTPError) -> str:
    """Returns the provider's own words."""
    try:
        document = json.loads(error.read(4096))
        inner = document.get("error") or document.get("Error") or {}
        return str(inner.get("message") or inner.get("Message") or error.reason)
    except (ValueError, AttributeError, OSError):
        return str(error.reason)
