"""Whether Prefect's server has heard of a worker: that its process lives says little."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime

from drillyard.checks.servers import basic

TIMEOUT_S = 10.0
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass
class Worker:
    """A worker that is being started.

    Args:
        api_url: Of Prefect's server.
        auth: ``user:password``.
        pool: Its work pool.
        name: Its name.
    """

    api_url: str
    auth: str = field(repr=False)
    pool: str
    name: str
    _since: float = 0.0

    def begin(self) -> None:
        """What was heard of an earlier one does not count."""
        self._since = time.time()

    def missing(self) -> str | None:
        """Why it is not at work yet; None once the server has heard of it."""
        request = urllib.request.Request(
            f"{self.api_url}/work_pools/{self.pool}/workers/filter",
            b"{}",
            {"Content-Type": "application/json", **basic(self.auth)},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return "it has not signed in yet" if error.code == 404 else f"the server: {error}"
        except OSError as error:
            return f"the server: {error}"
        for one in found:
            heard = datetime.fromisoformat(one["last_heartbeat_time"]).timestamp()
            if one["name"] == self.name and heard >= self._since:
                return None
        return "it has not signed in yet"


def without_proxy() -> dict[str, str]:
    """Variables with which nothing of this machine is looked for behind a proxy.

    Empty where no proxy is set.
    """
    environ = {name.lower(): value for name, value in os.environ.items()}
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    hosts = [one for one in environ.get("no_proxy", "").split(",") if one]
    hosts += [one for one in ("127.0.0.1", "localhost") if one not in hosts]
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))
