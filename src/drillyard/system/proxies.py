"""Where requests go: not to a proxy if they are for this machine, and nowhere by a redirect.

A proxy cannot reach another machine's loopback, and should not read what passes there: Prefect,
MLflow, emulators. Each library reads ``NO_PROXY`` by itself, some of them in capitals and some in
small letters only, and child processes inherit it.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import MutableMapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy")


def without_loopback(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Variables that exclude loopback from a proxy; empty if no proxy is set.

    Args:
        environ: The environment.
    """
    given = {name.lower() for name, value in environ.items() if value}
    if not given.intersection(_PROXIES):
        return {}
    hosts: list[str] = []
    for name in ("no_proxy", "NO_PROXY"):
        hosts += [host.strip() for host in environ.get(name, "").split(",") if host.strip()]
    if "*" in hosts:
        return {}
    hosts += LOOPBACK
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(dict.fromkeys(hosts)))


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: an allowed URL must not lead to one that is not allowed."""

    def redirect_request(self, *_: object) -> None:
        """Makes the redirect an error, as other statuses are."""


def spare_loopback() -> None:
    """Exclude loopback from the proxy of this process and of those that it starts."""
    os.environ.update(without_loopback(os.environ))
