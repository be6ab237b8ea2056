"""The automation `dead-run` on a real server: it marks dead flow runs of drillyard, and no others.

In real time: Prefect looks at all its waits once in `within`, and forgets one 60 s after its end,
so that a heartbeat with an earlier time would be forgotten before anything looks at it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from drillyard_flows import heartbeats, settings
from tests.flows.conftest import Api
from tests.flows.test_deploying import Deployer
from tests.helpers.patience import until
from tests.helpers.prefect_homes import copied
from tests.helpers.processes import free_port

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
FOREIGN = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from prefect import flow

@flow(flow_run_name="{name}")
def work(name):
    time.sleep(600)

with ThreadPoolExecutor() as pool:
    list(pool.map(work, ["foreign-1", "foreign-2"]))
"""
LONG = {
    "workload": "mock",
    "mock": {"duration_s": 600},
    **dict.fromkeys(("simulator", "learner", "train")),
}


@pytest.fixture
def watching(prefect_home, tmp_path):
    """Prefect's server, with the automations; drillyard's embedded one evaluates no triggers."""
    home, port = copied(prefect_home, tmp_path / "home"), free_port()
    off = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED" for name in settings._SERVICES_OFF}
    environ = settings.server_environment(home, port)
    child = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env={name: value for name, value in environ.items() if name not in off},
    )
    api = Api(f"http://127.0.0.1:{port}/api")
    until(lambda: child.poll() is not None or answers(api), what="a server", every_s=0.2)
    Deployer(api, tmp_path)("deploy")
    yield api
    child.terminate()
    child.wait()


def answers(api: Api) -> bool:
    try:
        return bool(api.get("/health"))
    except OSError:
        return False


@pytest.fixture
def foreign(watching, tmp_path):
    """Two flow runs that work, with Prefect's own interval of heartbeats."""
    script = tmp_path / "foreign.py"
    script.write_text(FOREIGN)
    environ = {**os.environ, "PREFECT_API_URL": watching.url}
    child = subprocess.Popen([sys.executable, str(script)], env=environ)
    yield
    assert child.poll() is None, "the flow runs of others ended"
    child.kill()
    child.wait()


def beats(api: Api, name: str) -> list[dict[str, Any]]:
    """The heartbeats of the newest flow run of a name."""
    found = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
    resource = {"id": [f"prefect.flow-run.{run['id']}" for run in found[:1]]}
    names = {"name": ["prefect.flow-run.heartbeat"]}
    body = {"filter": {"event": names, "resource": resource}}
    return list(api.post("/events/filter", body)["events"]) if found else []


def test_only_a_dead_run_that_sends_a_heartbeat_every_30_s_is_marked(watching, foreign, bench):
    children = {
        name: bench.start("run", bench.write(name, **LONG), PREFECT_API_URL=watching.url)
        for name in ("alive", "dead")
    }
    for name in ("foreign-1", "foreign-2", *children):
        until(lambda name=name: beats(watching, name), what=f"a heartbeat of {name}", every_s=0.5)
    children["dead"].kill()
    children["dead"].wait()

    def state(name: str) -> dict[str, Any]:
        return dict(watching.flow_run(name)["state"])

    until(lambda: state("dead")["type"] == "CRASHED", 150, "the dead run is marked", 0.5)
    assert state("dead")["message"] == "no heartbeat for 90 s"
    # Each has waited for longer than that since its first heartbeat.
    others = {name: state(name)["type"] for name in ("foreign-1", "foreign-2", "alive")}
    assert set(others.values()) == {"RUNNING"}, others
    assert len(beats(watching, "foreign-1")) == 1 and len(beats(watching, "alive")) >= 3


def test_every_run_with_the_tag_sends_three_heartbeats_before_it_counts_as_dead():
    trigger = yaml.safe_load((DEPLOYMENTS / "automations/dead-run.yaml").read_text())["trigger"]
    assert trigger["match_related"]["prefect.resource.id"] == f"prefect.tag.{heartbeats.TAG}"
    assert trigger["within"] >= 3 * heartbeats.EVERY_S
    for entry in yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]:
        environment = entry["work_pool"]["job_variables"]["env"]
        assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(heartbeats.EVERY_S)
        assert {"drillyard", heartbeats.TAG} <= set(entry["tags"])
