"""Whether a Prefect server plans what its schedules ask for.

Its scheduler is a service beside its API: when that one fails, the server answers as ever, and
nothing begins. A healthy one plans a new schedule within a minute, and several runs ahead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from drillyard.checks import servers
from drillyard.findings import Finding, Severity

SETTLED_S = 180.0
"""Since when a schedule is on before it must have been seen: the scheduler looks once a minute."""
_MOST_BYTES = 1 << 24
_PAGE = 200


def planned(url: str, *, settled_s: float = SETTLED_S) -> Iterator[Finding]:
    """What is wrong with a server's schedules; nothing where all have runs to come.

    Args:
        url: Of the API of a server that lets us in.
        settled_s: Younger schedules are left out.
    """

    def ask(path: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        answer = servers.ask(
            f"{url.rstrip('/')}{path}",
            {"Content-Type": "application/json", **servers.prefect_login()},
            servers.SERVER_TIMEOUT_S,
            data=json.dumps(body).encode(),
            most_bytes=_MOST_BYTES,
        )
        return json.loads(answer.text), answer.at or time.time()

    try:
        found, now = ask(
            "/deployments/filter", {"deployments": {"paused": {"eq_": False}}, "limit": _PAGE}
        )
        idle = []
        for one in found:
            if not any(_endless(s, now - settled_s) for s in one["schedules"]):
                continue
            ahead, _ = ask(
                "/flow_runs/count",
                {
                    "flow_runs": {
                        "deployment_id": {"any_": [one["id"]]},
                        "state": {"type": {"any_": ["SCHEDULED"]}},
                        "expected_start_time": {
                            "after_": datetime.fromtimestamp(now, UTC).isoformat()
                        },
                    }
                },
            )
            if not ahead:
                flow = str(one.get("entrypoint") or "").rpartition(":")[2]
                idle.append(f"{flow}/{one['name']}".lstrip("/"))
    except OSError as error:
        yield Finding(
            Severity.WARNING,
            "prefect schedules",
            f"cannot be read: {error}",
            "look at the server's log, then ask again",
        )
        return
    if idle:
        yield Finding(
            Severity.ERROR,
            "prefect schedules",
            f"are on, and the server plans no run of {', '.join(sorted(idle))}",
            "its scheduler does not work: look at the server's log; of `up`: logs/prefect.log",
        )


def _endless(schedule: Mapping[str, Any], before: float) -> bool:
    """Whether it is on, since some time, and never comes to an end."""
    kind = schedule["schedule"]
    return (
        bool(schedule["active"])
        and ("cron" in kind or "interval" in kind)
        and not schedule.get("max_scheduled_runs")
        and datetime.fromisoformat(schedule["updated"]).timestamp() < before
    )
