"""The flows `assess`, `promote` and `reap` against a real Prefect server."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from drillyard.agents.trained import trained
from drillyard.policies.export import export
from tests.helpers import rules
from tests.helpers.patience import until
from tests.helpers.processes import run_process
from tests.unit.policies.test_export import ROLLOUT, trained_run

# -- The flow ``reap`` against a real Prefect server: the table, the event, the failed run ----


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


# -- The flow ``promote`` against a real Prefect server and a real registry -------------------


PROMOTE_PROGRAM = """
import json, sys
from drillyard_flows.promote import promote

policy, uri = sys.argv[1:]
made = [promote(policy, "reactor", episodes=3, tracking=uri) for _ in range(2)]
print(json.dumps(made))
"""


def test_the_decision_is_a_table_in_prefect(api, tmp_path):
    run = trained_run(tmp_path / "store", "ppo", "cstr", ROLLOUT, ["normalize"])
    with trained(run.mailbox, run.run) as policy:
        export(policy, "onnx", tmp_path / "bundle")
    root = str(Path(__file__).parents[2])
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run_process(
        [sys.executable, "-c", PROMOTE_PROGRAM, str(tmp_path / "bundle"), uri],
        cwd=tmp_path,
        more={"PREFECT_API_URL": api.url, "PYTHONPATH": rules.path(root)},
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first["promoted"] and not second["promoted"] and second["champion"] == 1
    table = api.artifacts(api.flow_run("promote-reactor"))["drillyard-promote"]
    assert json.loads(table["data"])[0]["model"] == "reactor"


# -- The flow ``assess`` against a real Prefect server: tasks side by side, the table, the files


ROOT = Path(__file__).parents[2]
ASSESS_PROGRAM = """
import json, sys
from drillyard_flows.assess import assess

if __name__ == "__main__":
    found = assess(what="experiments/tank/tank.yaml", conditions="experiments/tank/starts.csv",
                   policy="hold", workers=2, out=sys.argv[1])
    print(json.dumps(found))
"""


def test_conditions_in_parallel_tasks_and_a_table(api, tmp_path):
    program = tmp_path / "assessing_by_flow.py"
    program.write_text(ASSESS_PROGRAM)
    done = run_process(
        [sys.executable, str(program), str(tmp_path / "out")],
        cwd=ROOT,
        more={"PREFECT_API_URL": api.url},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["episodes"] == 3
    with (tmp_path / "out" / "assessment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["config_wanted"] for row in rows] == ["0.5", "0.5", "1.4"]
    (artifact,) = api.post(
        "/artifacts/filter", {"artifacts": {"key": {"any_": ["drillyard-assessment"]}}}
    )
    table = json.loads(artifact["data"])
    assert [row["episode_id"] for row in table] == [0, 1, 2]
    asked = {"task_runs": {"name": {"like_": "conditions from"}}}

    def completed() -> list[str] | None:
        """The server is told of a task run in the background; see ``Api.tasks``."""
        runs = api.post("/task_runs/filter", asked)
        names = sorted(run["name"] for run in runs if run["state"]["type"] == "COMPLETED")
        return names if len(names) >= 2 else None

    found = until(completed, what="the task runs", every_s=0.2)
    assert found == ["conditions from 0", "conditions from 2"]
