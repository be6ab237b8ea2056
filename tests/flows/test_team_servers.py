"""Real servers with the settings of ``deployments/servers``: what they refuse of other sites."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from drillyard.checks.servers import planned
from drillyard_backends.gcp.mlflow_server.names import Choices
from drillyard_backends.gcp.mlflow_server.service import Service
from tests.helpers.composed import MLFLOW_SITE, SERVERS, SITE, Composed
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import free_port, run_process

pytestmark = pytest.mark.heavy
EVIL = {"origin": "https://evil.example"}
CLOUD = "https://mlflow-1.run.app"
Started = tuple[httpx.Client, int]
Start = Callable[..., Started]


def of_compose(name: str, folder: Path) -> dict[str, str]:
    """The variables of a service and its image, but those of its database and its users."""
    image = re.findall(r"(?m)^ENV (.*)$", (SERVERS / "Dockerfile").read_text())
    own = dict(pair.split("=", 1) for line in image for pair in line.split())
    own |= Composed(folder).environ(name)
    return {k: v for k, v in own.items() if not re.search("DATABASE|STORE_URI|AUTH_", k)}


def of_systemd(name: str, folder: Path) -> dict[str, str]:
    """The variables that a unit sets itself, before the administrator's."""
    text = (SERVERS / "systemd" / f"drillyard-{name}.service").read_text()
    pairs = [p for line in re.findall(r"(?m)^Environment=(.*)$", text) for p in line.split()]
    own = dict(pair.split("=", 1) for pair in pairs)
    return {k: v for k, v in own.items() if not re.search("AUTH_|HOME", k)}


def of_cloud_run(name: str, folder: Path) -> dict[str, str]:
    """The variables of the service on Google Cloud."""
    choices = Choices(project="a-project", region="europe-west1")
    document = Service(None, choices, CLOUD, None).document()  # type: ignore[arg-type]
    (container,) = document["template"]["containers"]  # type: ignore[index]
    return {v["name"]: v["value"] for v in container["env"] if "value" in v} | {
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder)
    }


@pytest.fixture
def start(tmp_path):
    """Starts a server in a process group of its own."""
    begun: list[subprocess.Popen[bytes]] = []

    def go(words: list[str], variables: dict[str, str], health: str) -> Started:
        port = free_port()
        inherited = {k: v for k, v in os.environ.items() if not re.match("PREFECT_|MLFLOW_", k)}
        with (tmp_path / "server.log").open("wb") as log:
            command = [sys.executable, "-m", *words, "--host", "127.0.0.1", "--port", str(port)]
            begun.append(
                subprocess.Popen(
                    command,
                    env={**inherited, "HOME": str(tmp_path), **variables},
                    cwd=tmp_path,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

        def healthy() -> bool:
            assert begun[-1].poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            try:
                return client.get(health).status_code == 200
            except httpx.HTTPError:
                return False

        until(healthy, what="the server")
        return client, begun[-1].pid

    yield go
    for process in begun:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)


def commands(session: int) -> list[str]:
    """The command lines of a session's processes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("of", [of_compose, of_systemd])
def test_prefect_takes_changes_from_its_own_clients_alone(of, start, tmp_path, monkeypatch):
    folder = tmp_path / "composed"
    (folder / "home").mkdir(parents=True)
    variables = of("prefect", folder) | {"PREFECT_HOME": str(tmp_path / "prefect")}
    client, _ = start(["prefect", "server", "start"], variables, "/api/health")
    forged = client.post("/api/flows/", json={"name": "forged"}, headers=EVIL)
    assert forged.status_code == 403 and "CSRF" in forged.text
    asked = {"access-control-request-method": "POST"}
    preflight = client.options("/api/flows/", headers={**EVIL, **asked})
    assert preflight.headers.get("access-control-allow-origin") is None
    if of is of_compose:
        own = client.options("/api/flows/", headers={"origin": f"https://{SITE}", **asked})
        assert own.headers["access-control-allow-origin"] == f"https://{SITE}"
    url = f"http://127.0.0.1:{client.base_url.port}/api"
    done = run_process(
        [sys.executable, "-m", "prefect", "variable", "set", "ours", "1"],
        more={"PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path / "client")},
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    # `doctor` asks this server with requests of our own.
    assert list(planned(url, settled_s=0.0)) == []


@pytest.mark.parametrize("of", [of_compose, of_systemd, of_cloud_run])
def test_mlflow_runs_no_jobs_and_takes_no_changes_of_other_sites(of, start, tmp_path):
    folder = tmp_path / "composed"
    (folder / "home").mkdir(parents=True)
    variables = of("mlflow", folder) | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs",
    }
    client, session = start(["mlflow", "server", "--workers", "1"], variables, "/health")
    hosts = variables.get("MLFLOW_SERVER_ALLOWED_HOSTS")
    host = {"host": hosts.split(",")[0] if hosts else "localhost"}
    path, new = "/api/2.0/mlflow/experiments/create", {"name": "made"}
    forged = client.post(path, json=new, headers={**host, **EVIL})
    assert forged.status_code == 403 and "Cross-origin" in forged.text, forged.text
    site = {"of_compose": f"https://{MLFLOW_SITE}", "of_cloud_run": CLOUD}.get(of.__name__)
    own = client.post(path, json=new, headers={**host, **({"origin": site} if site else {})})
    assert own.status_code == 200, own.text
    running = [c for c in commands(session) if "mlflow" in c]
    assert running, "the server's own processes are not seen"
    assert not [c for c in running if "job" in c or "huey" in c], running
