"""Checks whether a Prefect server plans the flow runs of its schedules.

Its scheduler is a service beside its API. If the scheduler fails, the API still answers but no
flow run starts. A healthy scheduler plans a new schedule within a minute, several runs ahead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drillyard.checks import servers
from drillyard.findings import Finding, problem, warning

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject

SETTLED_S = 180.0
"""Seconds after which the scheduler, which works once a minute, must have seen a schedule."""
_MOST_BYTES = 1 << 24
_PAGE = 200


def planned(url: str, *, settled_s: float = SETTLED_S) -> Iterator[Finding]:
    """Returns the problems of a server's schedules; none if all of them have planned runs.

    Args:
        url: API of a server that accepts our credentials.
        settled_s: Ignore schedules that are younger than this, in seconds.
    """

    def ask(path: str, body: JsonObject) -> tuple[Any, float]:
        answer = servers.ask(
            f"{url.rstrip('/')}{path}",
            {"Content-Type": "application/json", **servers.prefect_login(), **csrf},
            servers.SERVER_TIMEOUT_S,
            data=json.dumps(body).encode(),
            most_bytes=_MOST_BYTES,
        )
        return json.loads(answer.text), answer.at or time.time()

    csrf: dict[str, str] = {}
    try:
        csrf.update(servers.csrf_headers(url))
        deployments, now = ask(
            "/deployments/filter", {"deployments": {"paused": {"eq_": False}}, "limit": _PAGE}
        )
        idle = []
        for deployment in deployments:
            if not any(_endless(s, now - settled_s) for s in deployment["schedules"]):
                continue
            ahead, _ = ask(
                "/flow_runs/count",
                {
                    "flow_runs": {
                        "deployment_id": {"any_": [deployment["id"]]},
                        "state": {"type": {"any_": ["SCHEDULED"]}},
                        "expected_start_time": {
                            "after_": datetime.fromtimestamp(now, UTC).isoformat()
                        },
                    }
                },
            )
            if not ahead:
                flow = str(deployment.get("entrypoint") or "").rpartition(":")[2]
                idle.append(f"{flow}/{deployment['name']}".lstrip("/"))
    except OSError as error:
        yield warning(
            "prefect schedules",
            f"cannot be read: {error}",
            "look at the server's log, then try again",
        )
        return
    if idle:
        yield problem(
            "prefect schedules",
            f"are active, but the server plans no run of {', '.join(sorted(idle))}",
            "its scheduler does not work; look at the server's log (for `up`: logs/prefect.log)",
        )


def _endless(schedule: Mapping[str, Any], before: float) -> bool:
    """Returns whether a schedule is active since before a time, and has no end."""
    kind = schedule["schedule"]
    return (
        bool(schedule["active"])
        and ("cron" in kind or "interval" in kind)
        and not schedule.get("max_scheduled_runs")
        and datetime.fromisoformat(schedule["updated"]).timestamp() < before
    )
