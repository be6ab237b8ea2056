"""MLflow's use is not reported by drillyard, unless the user says so."""

import json
import os
import sys

import pytest

from drillyard.tracking.environment import no_telemetry
from tests.helpers.processes import run_process

PROGRAM = """
import json, socket, sys, threading
hosts = []

def refuse(host, *more, **other):
    hosts.append(host)
    raise OSError("no network")

socket.getaddrinfo = refuse
import mlflow
from drillyard.tracking.server import Server

server = Server(sys.argv[1])
server.create(server.experiment("quiet"), "run", {}, 1.7e9)
mlflow.MlflowClient(sys.argv[1]).search_experiments()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
print(json.dumps(hosts))
"""


@pytest.mark.heavy
def test_the_users_own_process_asks_no_telemetry_host(tmp_path):
    # MLflow is quiet by itself in what looks like a test or a build.
    foreign = ("MLFLOW_", "DO_NOT_TRACK", "PYTEST_", "CI", "GITHUB_ACTIONS")
    done = run_process(
        [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path}/mlflow.db"],
        env={name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_user_who_chose_is_obeyed(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    no_telemetry()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
