"""The one seam to Prefect's client: which server, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from drillyard.errors import ConfigError, ControlPlaneError
from drillyard_flows import settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@contextlib.contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of the configured server, in a process that has not imported Prefect yet.

    Raises:
        ConfigError: No server is configured: the one that ends with its last command keeps none
            of this.
        ControlPlaneError: It does not answer, or refuses.
    """
    url = settings.configured_api()
    if url is None:
        raise ConfigError(
            "there is no Prefect server to deploy to", field="PREFECT_API_URL",
            allowed="the address of a server that keeps running",
            hint="start one on this machine: drillyard up",
        )  # fmt: skip
    settings.use_api(url)
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise ControlPlaneError(
                f"Prefect's API at {url} does not let us in ({code})",
                # As an assignment it would be taken for a secret, and masked.
                hint="user and password stand in PREFECT_API_AUTH_STRING, with a colon between",
            ) from error
        raise ControlPlaneError(
            f"Prefect's API refused ({code}): {error.response.text[:500]}",
            hint="is the server as new as this Prefect? `drillyard doctor`",
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise ControlPlaneError(
            f"Prefect's API at {url} does not answer ({type(error).__name__})",
            hint="start that server, or unset PREFECT_API_URL; drillyard up starts one",
        ) from error
