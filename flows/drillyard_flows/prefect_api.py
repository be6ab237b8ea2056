"""The one seam to Prefect's client: which server, whether it is guarded, what its errors mean."""

from __future__ import annotations

import contextlib
import urllib.error
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drillyard.checks import servers
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard.system.redaction import redact
from drillyard_flows import settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FIELD = "PREFECT_API_URL"
CLOSED = (401, 403)
"""What a server answers whom it does not let in."""


@contextlib.contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of the configured server, in a process that has not imported Prefect yet.

    Raises:
        ConfigError: No server is configured: the one that ends with its last command keeps none
            of this. Or anybody can use it.
        ControlPlaneError: It does not answer, or refuses.
    """
    url = settings.configured_api()
    if url is None:
        raise ConfigError(
            "there is no Prefect server to deploy to",
            field=FIELD,
            allowed="the address of a server that keeps running",
            hint="drillyard up starts one on this machine; in this shell, source its env.sh",
        )
    guarded(url)
    settings.use_api(url)
    from prefect.client.orchestration import get_client

    with translated(), get_client(sync_client=True) as client:
        yield client


def guarded(url: str) -> None:
    """Refuse what is no address, and a server that anybody of the network can use.

    Args:
        url: Of its API.

    Raises:
        ConfigError: No address of a server; or it is not on this machine and answers without a
            password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "is no address of a server",
            field=FIELD,
            value=redact(url),
            allowed="https://…/api, or http:// on this machine",
            hint="of `drillyard up`: source its env.sh",
        )
    finding = servers.unguarded(url)
    if finding is not None:
        raise ConfigError(
            finding.message,
            field=FIELD,
            hint=finding.fix,
            allowed="a server that asks for a password, or one of this machine",
        )


def let_in(url: str) -> None:
    """Refuse a server that wants another password, before anything is made that it shall show.

    Args:
        url: Of an API that answers.

    Raises:
        ControlPlaneError: It does not take the user and password that Prefect's client would send.
    """
    key = settings.configured("PREFECT_API_KEY")
    pair = settings.configured("PREFECT_API_AUTH_STRING")
    login = {"Authorization": f"Bearer {key}"} if key else servers.basic(pair) if pair else {}
    try:
        servers.ask(f"{url.rstrip('/')}/admin/version", login, servers.SERVER_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code in CLOSED:
            raise _closed(f"Prefect's API at {redact(url)}", error.code) from error
    except OSError:
        pass  # slow, or gone since it answered: whoever needs it next says so


def _closed(shown: str, code: int) -> ControlPlaneError:
    return ControlPlaneError(
        f"{shown} does not let us in ({code})",
        # As an assignment it would be taken for a secret, and masked.
        hint="user and password stand in PREFECT_API_AUTH_STRING, with a colon between; "
        "of `drillyard up`: source its env.sh",
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What Prefect's client raises, as errors of the one tree.

    Raises:
        ControlPlaneError: The server does not answer, or refuses.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    shown = f"Prefect's API at {redact(settings.configured_api() or 'its own address')}"
    try:
        yield
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code in CLOSED:
            raise _closed(shown, code) from error
        raise ControlPlaneError(
            f"{shown} refused ({code}): {error.response.text[:500]}",
            hint="does the address end in /api, and is the server as new as this Prefect? "
            "`drillyard doctor`",
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise ControlPlaneError(
            f"{shown} does not answer ({type(error).__name__})",
            hint=f"start that server, or unset {FIELD}; drillyard up starts one",
        ) from error
