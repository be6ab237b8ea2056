"""A work pool of the type `drillyard` on a real server, its workers, and a foreign flow."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drillyard.checks.servers import reach
from tests.flows.conftest import Api
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.prefect_homes import copied
from tests.helpers.processes import free_port

FLOW = '''
"""A flow that does not know drillyard."""
import os
import pathlib
import time

from prefect import flow, task


@task
def twice(number):
    import helper  # a file beside the flow, which travels with it

    return helper.DOUBLE * number


@flow(log_prints=True)
def foreign(number=1, gate=None, mark=None, fail=False, missing=False):
    print("machine", os.environ.get("DRILLYARD_LEASE"), "with", os.environ.get("PUMP_PASSWORD"))
    if missing:
        import no_such_package
    if mark:
        pathlib.Path(mark).write_text(f"{os.getpid()} {time.time()}")
    while gate and not pathlib.Path(gate).exists():
        time.sleep(0.1)
    if fail:
        raise ValueError("the pump is dry")
    return twice(number)
'''
LIMITS = {"max_hours": 0.5, "max_cost": 1.0, "max_cost_month": 10.0}


@dataclass
class Pool:
    """A pool, with the folder of its flow and of its store."""

    api: Api
    folder: Path
    name: str
    environment: dict[str, str] = field(default_factory=dict)
    deployment: str = ""

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def make(self, limit: int | None = None, **defaults: Any) -> None:
        """Make the pool as Prefect's UI does, with values for its variables."""
        from drillyard_flows.pool.worker import DrillyardWorker

        template = DrillyardWorker.get_default_base_job_template()
        for name, value in {**LIMITS, **defaults}.items():
            template["variables"]["properties"][name]["default"] = value
        body = {"name": self.name, "type": "drillyard", "base_job_template": template}
        self.api.post("/work_pools/", {**body, "concurrency_limit": limit})

    def deploy(self, text: str = FLOW, **more: Any) -> None:
        """Deploy the foreign flow, from a folder of this machine."""
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "jobs.py").write_text(text)
        (code / "helper.py").write_text("DOUBLE = 2\n")
        flow = self.api.post("/flows/", {"name": "foreign"})["id"]
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(code)}}
        body = {
            "name": self.name,
            "flow_id": flow,
            "entrypoint": "jobs.py:foreign",
            "work_pool_name": self.name,
            "pull_steps": [step],
            **more,
        }
        self.deployment = self.api.post("/deployments/", body)["id"]

    def start(self, job_variables: dict[str, Any] | None = None, **parameters: Any) -> str:
        """Press "run": the id of the flow run."""
        body = {"parameters": parameters, "job_variables": job_variables}
        path = f"/deployments/{self.deployment}/create_flow_run"
        return str(self.api.post(path, body)["id"])

    def ended(self, run: str) -> dict[str, Any]:
        """A flow run, once it has ended and is settled."""
        return dict(until(lambda: self.api.ended(run), what="the end", every_s=0.2))

    def settled(self) -> list[dict[str, Any]]:
        """What flow runs have cost, once no reservation is open."""
        box = self.store / f"pool-{self.name}"

        def names(part: str) -> set[str]:
            return {path.name for path in (box / part).glob("*.json")}

        until(lambda: names("entries") <= names("settled"), what="settlements", every_s=0.2)
        return [json.loads(path.read_text()) for path in sorted((box / "settled").glob("*"))]

    def leases(self) -> dict[str, bool]:
        """Lease id -> known to be gone, of all flow runs."""
        return {
            path.name: (path / "gone.json").exists()
            for path in self.store.glob("flow-*/leases/*")
            if path.is_dir()
        }

    @contextlib.contextmanager
    def worker(self, name: str = "one") -> Iterator[subprocess.Popen[bytes]]:
        """Prefect's own command for a worker."""
        words = f"prefect worker start --pool {self.name} --type drillyard --name {name}"
        environ = {
            **os.environ,
            "PREFECT_API_URL": self.api.url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "DRILLYARD_STORE": str(self.store),
            "PREFECT_HOME": str(self.folder / "home"),
            **({"PREFECT_API_AUTH_STRING": self.api.auth} if self.api.auth else {}),
            **self.environment,
        }
        with open(self.folder / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", *words.split()],
                env=environ,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield child
        finally:
            child.kill()
            child.wait(PATIENCE_S)

    def log(self, name: str = "one") -> str:
        return (self.folder / f"{name}.log").read_text()


@contextlib.contextmanager
def server(home: Path, folder: Path) -> Iterator[Api]:
    """A Prefect server with a password, at an address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; says which address leads outside
        host = probe.getsockname()[0]
    port, login = free_port(), "team:Yellow-Pump-7"
    environ = {
        **os.environ,
        "PREFECT_HOME": str(copied(home, folder / "server")),
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_API_AUTH_STRING": login,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    words = f"prefect server start --host {host} --port {port}"
    with open(folder / "server.log", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *words.split()],
            env=environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        url = f"http://{host}:{port}/api"
        until(lambda: reach(f"{url}/health") is None, what="the server", every_s=0.2)
        yield Api(url, login)
    finally:
        child.terminate()
        child.wait(PATIENCE_S)
