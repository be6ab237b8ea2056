"""Whether Prefect's server knows a worker; a live process alone does not prove that it works."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime

from drillyard.checks.servers import basic

TIMEOUT_S = 10.0


@dataclass
class WorkerHealth:
    """The health of a worker that was started.

    Args:
        api_url: API of Prefect's server.
        auth: ``user:password``.
        pool: The worker's pool.
        name: The worker's name.
    """

    api_url: str
    auth: str = field(repr=False)
    pool: str
    name: str
    _since: float = 0.0

    def begin(self) -> None:
        """Ignores heartbeats from before this moment."""
        self._since = time.time()

    def missing(self) -> str | None:
        """Returns why the worker is not ready; None once the server received a heartbeat."""
        request = urllib.request.Request(
            f"{self.api_url}/work_pools/{self.pool}/workers/filter",
            b"{}",
            {"Content-Type": "application/json", **basic(self.auth)},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                workers = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return "it has not registered yet" if error.code == 404 else f"the server: {error}"
        except OSError as error:
            return f"the server: {error}"
        for worker in workers:
            heartbeat = datetime.fromisoformat(worker["last_heartbeat_time"]).timestamp()
            if worker["name"] == self.name and heartbeat >= self._since:
                return None
        return "it has not registered yet"
