"""The flow as a deployment: started and cancelled through Prefect's API, by no command of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.tracking import behind
from drillyard.tracking.tracker import MLFLOW, Target
from tests.flows.conftest import Api, lease_processes
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tls_proxy import proxied

pytestmark = pytest.mark.slow

SERVE = """
from drillyard_flows.experiment import experiment
if __name__ == "__main__":
    experiment.serve(name="lab")
"""


@pytest.fixture
def lab(api, bench):
    """Id of a served deployment of the flow `experiment`."""
    script = bench.folder / "lab.py"
    script.write_text(SERVE)
    environ = {
        **os.environ,
        "PREFECT_API_URL": api.url,
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DRILLYARD_STORE": str(bench.store),
        "PREFECT_HOME": str(bench.folder / "home"),
    }
    with open(bench.folder / "lab.log", "w") as log:
        child = subprocess.Popen(
            [sys.executable, str(script)],
            env=environ,
            cwd=bench.folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        found = until(
            lambda: [
                d
                for d in api.post("/deployments/filter", {})
                if d["name"] == "lab" and not d["paused"] and d["entrypoint"]
            ],
            what="a deployment",
        )
        yield found[0]["id"]
    finally:
        child.terminate()
        child.wait(PATIENCE_S)


def start(api: Api, lab: str, file: Path) -> str:
    """A flow run with flat parameters, as a form sends them."""
    body = {"parameters": {"file": str(file), "sets": ["evaluate.episodes=3"]}}
    return str(api.post(f"/deployments/{lab}/create_flow_run", body)["id"])


def test_a_deployment_gives_the_same_results_and_again_rents_nothing(api, bench, lab):
    file = bench.write("served")
    run = start(api, lab, file)
    found = until(lambda: api.ended(run), what="the end")
    assert found["state"]["type"] == "COMPLETED", (bench.folder / "lab.log").read_text()
    assert bench.run("run", file, "--name", "typed").returncode == 0
    assert bench.weights("served") == bench.weights("typed")
    ((lease, gone),) = bench.leases("served").items()
    assert gone and lease_processes(lease) == []

    again = start(api, lab, file)
    found = until(lambda: api.ended(again), what="the end")
    assert found["state"]["type"] == "COMPLETED", (bench.folder / "lab.log").read_text()
    assert len(bench.leases("served")) == 1
    until(lambda: any("nothing to do" in line for line in api.logs(found)), what="log lines")


def test_cancelled_through_the_api_leaves_nothing_and_can_be_resumed(api, bench, lab):
    file = bench.write("called-off", simulator={"id": "world:Slow", "args": {"step_s": 0.02}})
    run = start(api, lab, file)
    until(lambda: bench.board_step("called-off") >= 130, what="steps")
    api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

    found = until(lambda: api.ended(run), what="the end")
    assert found["state"]["type"] == "CANCELLED"
    ((lease, gone),) = bench.leases("called-off").items()
    assert gone and lease_processes(lease) == []
    train = "train t0001-s1"
    assert api.tasks(found, train)[train]["state"]["type"] == "CANCELLED"
    assert bench.run("resume", "called-off").returncode == 0
    attempt = bench.store / "called-off/runs/t0001-s1/attempts/train-2/start.json"
    assert json.loads(attempt.read_text())["resumed_step"] >= 128


@pytest.fixture
def mlflow():
    """Address of a server that answers until ``silent`` is set, and then says nothing."""
    silent, over = threading.Event(), threading.Event()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            if silent.is_set():
                over.wait()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")

        do_POST = do_GET

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", silent
    over.set()
    server.shutdown()
    server.server_close()


def test_a_flow_run_ends_with_its_teardown_although_mlflow_says_nothing(api, bench, lab, mlflow):
    """It holds a slot of its pool; what MLflow lacks is sent from outside it."""
    address, silent = mlflow
    file = bench.write("unheard", tracking={"mlflow": address, "tensorboard": False})
    run = start(api, lab, file)
    until(lambda: bench.board_step("unheard") > 0, what="steps")
    silent.set()
    found = until(lambda: api.ended(run), what="the end")
    assert found["state"]["type"] == "COMPLETED", (bench.folder / "lab.log").read_text()
    (gone,) = (bench.store / "unheard").glob("leases/*/gone.json")
    ended = datetime.fromisoformat(found["end_time"]).timestamp()
    # Five seconds on a quiet machine, most of which is the report; it waited for ten minutes.
    assert ended - gone.stat().st_mtime < 30.0


def test_curves_that_mlflow_lacks_at_the_end_of_a_flow_run_follow(api, bench, lab):
    uri = f"sqlite:///{bench.folder}/mlflow.db"
    file = bench.write("heard", tracking={"mlflow": uri, "tensorboard": False})
    run = start(api, lab, file)
    found = until(lambda: api.ended(run), what="the end")
    assert found["state"]["type"] == "COMPLETED", (bench.folder / "lab.log").read_text()
    mailbox = Mailbox(open_store(str(bench.store)), "heard")
    until(lambda: not behind.lacking(mailbox, Target(MLFLOW, uri)), what="the last points")


PUMP = """
from pathlib import Path
from world import Slow

class Pump(Slow):
    def __init__(self, dry):
        super().__init__(step_s=0.01)
        self.dry = Path(dry)

    def step(self, action):
        if self.dry.exists():
            raise ValueError("the pump is dry")
        return super().step(action)
"""
RETRY = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
"""What the button *Retry* of Prefect's UI sends, with ``force``."""


def test_a_flow_run_that_is_retried_in_the_ui_continues_the_experiment(api, bench, lab):
    (bench.folder / "pump.py").write_text(PUMP)
    dry = bench.folder.with_name(f"{bench.folder.name}-dry")
    simulator = {"id": "pump:Pump", "args": {"dry": str(dry)}}
    file = bench.write("pumped", simulator=simulator, seeds=[1, 2], resources={"workers": 1})
    run = start(api, lab, file)
    runs = bench.store / "pumped" / "runs"
    until(lambda: bench.board_step("pumped", "t0001-s2") >= 128, what="a checkpoint")
    dry.touch()
    failed = until(lambda: api.ended(run), what="the failure")
    assert failed["state"]["type"] == "FAILED", (bench.folder / "lab.log").read_text()
    assert (runs / "t0001-s1/store.accepted.json").exists()
    dry.unlink()

    api.post(f"/flow_runs/{run}/set_state", {"state": RETRY, "force": True})
    again = until(lambda: (f := api.ended(run)) and f["run_count"] == 2 and f, what="the end")
    assert again["state"]["type"] == "COMPLETED", (bench.folder / "lab.log").read_text()
    phases = [f"{phase} t0001-s1" for phase in ("train", "evaluate", "store")]
    listed = {"flow_runs": {"id": {"any_": [run]}}}
    until(
        lambda: {
            task["name"]
            for task in api.post("/task_runs/filter", listed)
            if task["state"]["name"] == "Cached"
        }.issuperset(phases),
        what="finished phases that are shown as Cached",
    )
    attempt = runs / "t0001-s2/attempts/train-2/start.json"
    assert json.loads(attempt.read_text())["resumed_step"] >= 128
    assert all(gone for gone in bench.leases("pumped").values())


def test_an_experiment_is_shown_by_a_server_behind_tls_a_key_and_a_base_path(api, bench, tmp_path):
    """The proxy passes no websockets: what Prefect sends by them is missing, and nothing waits."""
    file = bench.write("elsewhere")
    with proxied(tmp_path, api.url, "Bearer a-key-of-the-lab") as url:
        given = {
            "PREFECT_API_URL": url,
            "PREFECT_API_KEY": "a-key-of-the-lab",
            "PREFECT_API_SSL_CERT_FILE": str(tmp_path / "lab.pem"),
        }
        done = bench.run("run", file, **given)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "a-key-of-the-lab" not in done.stderr
    assert api.flow_run("elsewhere")["state"]["type"] == "COMPLETED"


STAGED = """
name: in-stages
workload: composite
tracking: {{mlflow: null}}
children:
  - name: first
    workload: script
    resources: {{workers: 1}}
    script: {{run: [[sh, -c, 'touch {flag}; while [ ! -e {gate} ]; do sleep 0.1; done']]}}
  - {{name: last, workload: script, after: [first], script: {{run: [['true']]}}}}
"""


def test_stages_that_are_cancelled_through_the_api_leave_nothing_and_go_on(api, bench, lab):
    folder = bench.folder
    flag, gate = (folder.with_name(f"{folder.name}-{name}") for name in ("at-work", "gate"))
    file = folder / "project" / "in-stages.yaml"  # what is beside it is its code
    file.parent.mkdir()
    file.write_text(STAGED.format(flag=flag, gate=gate))
    body = {"parameters": {"file": str(file)}}
    run = str(api.post(f"/deployments/{lab}/create_flow_run", body)["id"])
    until(flag.exists, what="the work of the first stage")
    api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

    found = until(lambda: api.ended(run), what="the end")
    assert found["state"]["type"] == "CANCELLED", (folder / "lab.log").read_text()
    leases = [path for path in bench.store.glob("*/leases/*") if path.is_dir()]
    assert leases and all((path / "gone.json").exists() for path in leases)
    assert not any(lease_processes(path.name) for path in leases)
    gate.touch()
    done = bench.run("run", file)
    assert done.returncode == 0, done.stderr
