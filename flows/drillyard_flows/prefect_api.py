"""Access to Prefect's client: which server, whether it is protected, what its errors mean."""

from __future__ import annotations

import contextlib
import os
import urllib.error
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drillyard.checks import servers
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard.system import closed_output
from drillyard.system.redaction import redact
from drillyard_flows import settings

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

FIELD = "PREFECT_API_URL"
CLOSED = (401, 403)
"""HTTP status codes of rejected credentials."""
BUSY = (429, 503)
"""HTTP status codes of a server that has no time now. Prefect's client asks again by itself."""
RETRIES = "5"
"""How often a command of a person asks a busy server again, after 2, 4, 8, 16 and 32 s."""


@contextlib.contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """Opens a client of the configured server, in a process that has not imported Prefect yet.

    Raises:
        ConfigError: No permanent server is configured, or it is open to the whole network.
        ControlPlaneError: The server does not answer, or refuses.
    """
    url = settings.configured_api()
    if url is None:
        raise ConfigError(
            "there is no Prefect server to deploy to",
            field=FIELD,
            allowed="the address of a permanent server",
            hint="start one here with drillyard up, and source its env.sh in this shell",
        )
    guarded(url)
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", RETRIES)
    settings.use_api(url)
    from prefect.client.orchestration import get_client

    hooks = {"event_hooks": {"response": [_says_if_busy()]}}
    with translated(), get_client(httpx_settings=hooks, sync_client=True) as client:
        yield client


def _says_if_busy() -> Callable[[httpx.Response], None]:
    """Returns a hook that says once that the server is busy, while the client waits."""
    said: list[int] = []

    def hook(response: httpx.Response) -> None:
        if response.status_code in BUSY and not said:
            said.append(response.status_code)
            text = f"Prefect's API is busy ({response.status_code}): asking again for a minute"
            closed_output.tell(text, err=True)

    return hook


def guarded(url: str) -> None:
    """Refuses a malformed address, and a server that is open to the whole network.

    Args:
        url: Address of its API.

    Raises:
        ConfigError: The address is malformed; or the server is not on this machine and answers
            without a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "is not the address of a server",
            field=FIELD,
            value=redact(url),
            allowed="https://…/api, or http:// on this machine",
            hint="for `drillyard up`: source its env.sh",
        )
    finding = servers.unguarded(url)
    if finding is not None:
        raise ConfigError(
            finding.message,
            field=FIELD,
            hint=finding.fix,
            allowed="a server that requires a password, or one on this machine",
        )


def let_in(url: str) -> None:
    """Refuses a server that requires another password, before anything is created.

    Args:
        url: Address of an API that answers.

    Raises:
        ControlPlaneError: It rejects the user and password that Prefect's client would send.
    """
    try:
        servers.let_in(url)
    except urllib.error.HTTPError as error:
        if error.code in CLOSED:
            raise _rejected(f"Prefect's API at {redact(url)}", error.code) from error
    except OSError:
        pass  # slow or unavailable: the next request reports it


def _rejected(address: str, code: int) -> ControlPlaneError:
    return ControlPlaneError(
        f"{address} rejected our credentials ({code})",
        # Written as an assignment, it would be taken for a secret and masked.
        hint="set PREFECT_API_AUTH_STRING to the user and the password with a colon between, or "
        "PREFECT_API_KEY to the key that the server wants; for `drillyard up`: source its env.sh",
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translates exceptions of Prefect's client into drillyard's errors.

    Raises:
        ControlPlaneError: The server does not answer, or refuses.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    address = f"Prefect's API at {redact(settings.configured_api() or 'its own address')}"
    try:
        yield
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code in CLOSED:
            raise _rejected(address, code) from error
        if code in BUSY:
            raise ControlPlaneError(
                f"{address} is busy ({code})",
                hint="repeat the command in a minute; on PostgreSQL a server can do more at once",
            ) from error
        raise ControlPlaneError(
            f"{address} refused the request ({code}): {error.response.text[:500]}",
            hint="check that the address ends in /api and that the server has the same version as "
            "this Prefect; `drillyard doctor` checks both",
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise ControlPlaneError(
            f"{address} does not answer ({type(error).__name__})",
            hint=f"start that server, or unset {FIELD}; drillyard up starts a server",
        ) from error
