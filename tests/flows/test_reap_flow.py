"""The flow ``reap`` against a real Prefect server: the table, the event, the failed run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.helpers import rules
from tests.helpers.patience import until
from tests.helpers.processes import run_process

PROGRAM = """
import json, sys
from drillyard.backend import Order
from drillyard.errors import TeardownUnconfirmed
from drillyard.leases.reaper import reaper
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import PaidBackend
from drillyard_flows.reap import reap

reaper.CONFIRM_S = 0.2
clock = FakeClock(2_000_000_000.0)
PaidBackend.reset(clock)
for number in (1, 2):
    PaidBackend().provision(
        Order(lease_id=f"dy-000000000{number}", experiment="e", store_url="/nowhere",
              deadline=clock.now() + number * 7200)
    )
clock.advance(3 * 3600.0)
PaidBackend.forbidden = True
failed = []
for _ in range(2):
    try:
        reap(["paid"])
    except TeardownUnconfirmed as error:
        failed.append(str(error))
PaidBackend.forbidden = False
looked = reap(["paid"], dry_run=True)
found = reap(["paid"])
print(json.dumps([failed, looked, found, PaidBackend.alive()]))
"""


def test_it_deletes_shows_and_raises_the_event(api, tmp_path):
    root = str(Path(__file__).parents[2])
    done = run_process(
        [sys.executable, "-c", PROGRAM],
        cwd=root,
        more={
            "PREFECT_API_URL": api.url,
            "PYTHONPATH": rules.path(root),
            "DRILLYARD_HOME": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    failed, looked, found, alive = json.loads(done.stdout.splitlines()[-1])
    assert len(failed) == 2 and all("dy-0000000001" in f and "403" in f for f in failed)
    assert looked["left"] == ["dy-0000000001", "dy-0000000002"]
    assert (found["deleted"], found["left"]) == (["dy-0000000001"], ["dy-0000000002"])
    assert alive == ["dy-0000000002"]

    def events(name: str) -> list[dict[str, Any]]:
        body = {"filter": {"event": {"name": [name]}}}
        return list(api.post("/events/filter", body)["events"])

    until(lambda: events("drillyard.lease.reaped"), what="the events")
    (alarm,) = events("drillyard.lease.undeletable")
    assert alarm["resource"]["prefect.resource.id"] == "drillyard.lease.dy-0000000001"
    assert alarm["payload"]["failures"] == 2
    table = api.artifacts(api.flow_run("reap"))["drillyard-reap"]
    assert [row["done"] for row in json.loads(table["data"])] == ["deleted", "left alone"]
    states = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["reap"]}}})
    assert sorted(s["state_type"] for s in states) == ["COMPLETED"] * 2 + ["FAILED"] * 2
