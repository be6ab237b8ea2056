"""Flow runs over Prefect's REST API, without Prefect: its import takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from drillyard.checks.servers import ask, basic, csrf_headers
from drillyard.errors import ControlPlaneError
from drillyard.system.redaction import redact

TIMEOUT_S = 5.0
PATIENCE_S = 30.0
"""How long requests to a server that does not answer are repeated, in seconds."""
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class FlowRunApi:
    """The API of a Prefect server.

    Attributes:
        url: Its address, with ``/api`` at the end.
        login: Header with the credentials.
    """

    url: str
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Returns the API that Prefect's client would use with these variables."""
        key = environment.get("PREFECT_API_KEY")
        pair = environment.get("PREFECT_API_AUTH_STRING")
        login = {"Authorization": f"Bearer {key}"} if key else basic(pair) if pair else {}
        return cls(environment["PREFECT_API_URL"].rstrip("/"), login)

    def state(self, flow_run: str, experiment: str = "") -> str:
        """Returns the type of the state of a flow run, such as ``RUNNING``.

        Args:
            flow_run: Its id.
            experiment: The one that asks; default: it does not matter which.

        Returns:
            Empty if it was deleted, or was retried and has another experiment.

        Raises:
            ControlPlaneError: The server does not answer.
        """
        try:
            found = self._ask(f"/flow_runs/{flow_run}", None)
        except ControlPlaneError as error:
            if getattr(error.__cause__, "code", None) == 404:
                return ""
            raise
        now = str(found.get("infrastructure_pid") or "").rpartition("/")[2]
        return "" if experiment and now not in ("", experiment) else str(found.get("state_type"))

    def waiting(self, pool: str, for_s: float) -> list[str]:
        """Returns the flow runs of a pool that some worker took this long ago, and not began.

        Raises:
            ControlPlaneError: The server does not answer.
        """
        before = datetime.now(UTC).timestamp() - for_s
        found = self._ask(
            "/flow_runs/filter",
            {
                "flow_runs": {"state": {"type": {"any_": ["PENDING"]}}},
                "work_pools": {"name": {"any_": [pool]}},
            },
        )
        return [
            run["id"]
            for run in found
            if datetime.fromisoformat(run["state"]["timestamp"]).timestamp() < before
        ]

    def set_state(self, flow_run: str, kind: str, message: str) -> None:
        """Sets the state of a flow run, whatever it is.

        Args:
            flow_run: Its id.
            kind: ``CRASHED``, ``SCHEDULED``, …
            message: For people.

        Raises:
            ControlPlaneError: The server does not answer.
        """
        state: dict[str, object] = {"type": kind, "message": redact(message)}
        if kind == "SCHEDULED":
            state["state_details"] = {"scheduled_time": datetime.now(UTC).isoformat()}
        self._ask(f"/flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def show(self, flow_run: str, key: str, markdown: str) -> None:
        """Adds an artifact to a flow run.

        Raises:
            ControlPlaneError: The server does not answer.
        """
        text = {"key": key, "type": "markdown", "data": markdown, "flow_run_id": flow_run}
        self._ask("/artifacts/", text)

    def _ask(self, path: str, body: object) -> Any:
        def request() -> str:
            headers = {"Content-Type": "application/json", **self.login}
            data = None if body is None else json.dumps(body).encode()
            if data is not None:
                headers |= csrf_headers(self.url, self.login)
            url = self.url + path
            return ask(url, headers, TIMEOUT_S, data=data, most_bytes=_MOST_BYTES).text

        retrying = Retrying(
            stop=stop_after_delay(PATIENCE_S),
            wait=wait_fixed(1.0),
            # A refusal stays one.
            retry=retry_if_exception(
                lambda e: isinstance(e, OSError) and getattr(e, "code", 503) >= 429
            ),
            reraise=True,
        )
        try:
            return json.loads(retrying(request))
        except OSError as error:
            raise ControlPlaneError(
                f"Prefect's API at {redact(self.url)} did not answer {path}: {error}",
                hint="the machine needs a way to that address, and valid credentials",
            ) from error
