"""`drillyard.run` is `drillyard run`: the same six tasks in Prefect, unless it is told not to."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.flows.conftest import Bench, lease_processes
from tests.helpers.processes import run_process

PROGRAM = """
import json, sys
import prefect
import drillyard

points = []
file, store = sys.argv[1:]
found = drillyard.run(drillyard.load(file, seeds=[5], tunables={"level": 0.25}), store=store,
                      callbacks=points.append)
plain = drillyard.run(drillyard.load(file, name="plain"), store=store, flow=False, report=False)
again = drillyard.run(drillyard.load(file, name="again"), store=store, report=False)
seen = [p.step for p in points]
print(json.dumps([found.status, plain.status, again.status, seen]))
"""
FILE = """\
name: {name}
workload: mock
mock: {{points: 6}}
parameters:
  tunables: {{shape: {{params: {{level: {{type: float, range: [0, 1], default: 0.5}}}}}}}}
  tunable_params: [shape]
tracking: {{mlflow: null}}
"""


ONCE = """
import json, sys
import drillyard
print(json.dumps(drillyard.run(sys.argv[1], store=sys.argv[2], report=False).status))
"""


def program(bench: Bench, name: str, text: str, **env: str) -> object:
    (bench.folder / f"{name}.yaml").write_text(FILE.format(name=name))
    clean = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    done = run_process(
        [sys.executable, "-c", text, f"{name}.yaml", str(bench.store)],
        cwd=bench.folder,
        env={**clean, **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_six_tasks_as_by_the_command_and_none_where_told(api, bench):
    """Prefect was imported before drillyard, and its server is the shared one of this home."""
    found = program(bench, "called", PROGRAM)
    assert isinstance(found, list) and found[:3] == ["SUCCEEDED"] * 3
    assert found[3] == list(range(1, 7)), "each point once, in order"
    run = api.flow_run("called")
    assert run["state"]["type"] == "COMPLETED"
    tasks = api.tasks(run, "store t0001-s5", "teardown")
    assert {name.split()[0].split("-")[0] for name in tasks} == {
        "provision",
        "setup",
        "train",
        "evaluate",
        "store",
        "teardown",
    }
    assert run["parameters"]["tunables"] == ["level=0.25"]
    assert run["parameters"]["sets"] == ["seeds=[5]"]
    assert api.flow_run("again")["state"]["type"] == "COMPLETED"
    named = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["plain"]}}})
    assert named == []
    for lease in bench.store.glob("*/leases/*"):
        assert (lease / "gone.json").exists() and not lease_processes(lease.name)
    assert (bench.store / "called/report/index.html").exists()


def test_without_an_api_it_goes_on_without(bench):
    nowhere = "http://127.0.0.1:9/api"
    assert program(bench, "alone", ONCE, PREFECT_API_URL=nowhere) == "SUCCEEDED"


def test_the_command_without_prefect_starts_no_server(bench):
    """An API that does not answer would end the command: it is not asked."""
    (bench.folder / "alone.yaml").write_text(FILE.format(name="alone"))
    words = ["run", "alone.yaml", "--store", str(bench.store)]
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        return run_process(
            [sys.executable, "-m", "drillyard.cli.start", *words, *more], cwd=bench.folder, env=env
        )

    assert command().returncode == 4
    done = command("--no-prefect", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "SUCCEEDED"
    assert "Prefect" not in done.stderr
