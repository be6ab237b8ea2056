"""What a Prefect server is shown, and what it counts."""

from __future__ import annotations

import json

from tests.flows.conftest import Bench
from tests.helpers.patience import until

# -- A Prefect server that the user named: it sees that a flow lives, and holds up nothing ----


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


# -- A limit that Prefect counts holds back whole experiments, and gives way when they end ----


def mock_file(bench: Bench, name: str, **resources: object) -> str:
    path = bench.folder / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "schema": 1,
                "name": name,
                "workload": "mock",
                "tracking": {"mlflow": None},
                "resources": {"workers": 2, **resources},
            }
        )
    )
    return str(path)


def test_an_experiment_waits_for_its_slots_and_rents_nothing_before(api, bench):
    made = api.post("/v2/concurrency_limits/", {"name": "licences", "limit": 3, "active_slots": 0})
    slots = {"names": ["licences"], "slots": 2, "mode": "concurrency"}
    api.post("/v2/concurrency_limits/increment", slots)
    file = mock_file(bench, "waits", limit="licences")
    child = bench.start("run", file)
    until(lambda: "waiting for 2 slots" in bench.said() or child.poll() is not None)
    assert child.poll() is None, bench.said()
    assert not (bench.store / "waits" / "leases").exists()
    api.post("/v2/concurrency_limits/decrement", {**slots, "occupancy_seconds": 1.0})
    assert bench.ended(child) == 0, bench.said()
    assert set(bench.leases("waits").values()) == {True}
    now = api.get(f"/v2/concurrency_limits/{made['id']}")
    assert now["active_slots"] == 0

    for name, resources, said in (
        ("none", {"limit": "licenses"}, "prefect gcl create licenses --limit 2"),
        ("large", {"limit": "licences", "workers": 4}, "has 3 slots"),
    ):
        done = bench.run("run", mock_file(bench, name, **resources))
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
        assert not (bench.store / name / "leases").exists()


def test_without_prefect_nothing_that_it_counts_is_begun(bench):
    file = mock_file(bench, "uncounted", limit="licences")
    done = bench.run("run", file, "--offline-ok", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "which counts the limit 'licences'" in done.stderr
    assert not (bench.store / "uncounted" / "leases").exists()


# -- The stages of a composite in Prefect: one task run each, in the order of their graph -----


FILE = """
schema: 1
name: staged
workload: composite
tracking: {mlflow: null}
children:
  - {name: left, workload: mock, outputs: {s: {metric: score}}}
  - {name: right, workload: mock}
  - {name: last, workload: script, after: [right], inputs: {s: left.s},
     script: {run: [[python, -c, "print('n=$s')"]], results: {stdout: '^(\\w+)=(\\S+)$'}}}
"""


def test_prefect_draws_the_graph_of_the_stages(bench, api):
    file = bench.folder / "staged.yaml"
    bench.folder.mkdir(exist_ok=True)
    file.write_text(FILE)
    bench.run("run", file)
    whole = api.flow_run("staged")
    assert whole["state_type"] == "COMPLETED"
    tasks = api.tasks(whole, "left", "right", "last")
    ids = {str(task["id"]): name for name, task in tasks.items()}
    waited = {ids[str(one["id"])] for one in tasks["last"]["task_inputs"]["wait_for"]}
    assert waited == {"left", "right"}
    stage = api.flow_run("staged.last")
    assert {"provision", "setup", "teardown"} <= set(api.tasks(stage, "teardown"))
