"""A Prefect server that the user named: it sees that a flow lives, and holds up nothing."""

import json

from tests.flows.conftest import Bench
from tests.helpers.patience import until

MOCK = {
    "schema": 1,
    "name": "beating",
    "workload": "mock",
    "seeds": [1, 2],
    "mock": {"metrics": ["score"]},
    "tracking": {"mlflow": None},
}


def test_heartbeats_arrive_and_machines_go_with_the_last_result(api, tmp_path):
    bench = Bench(tmp_path)
    file = tmp_path / "beating.json"
    file.write_text(json.dumps(MOCK))
    done = bench.run("run", file, "--json", PREFECT_API_URL=api.url)
    assert done.returncode == 0, done.stderr

    run = api.flow_run("beating")
    assert run["state"]["type"] == "COMPLETED"
    assert api.tasks(run, "teardown")["teardown"]["state"]["type"] == "COMPLETED"
    body = {
        "filter": {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run['id']}"]},
        }
    }
    beats = until(lambda: api.post("/events/filter", body)["events"], what="a heartbeat")
    assert {b["event"] for b in beats} == {"prefect.flow-run.heartbeat"}

    # One report, of a lease that was gone before, and the same in the answer and Prefect's page.
    folder = bench.store / "beating"
    (gone,) = folder.glob("leases/*/gone.json")
    index = folder / "report" / "index.html"
    assert gone.stat().st_mtime <= index.stat().st_mtime
    assert json.loads(done.stdout)["report"] == str(index)
    assert str(index) in api.artifacts(run)["report-beating"]["data"]
