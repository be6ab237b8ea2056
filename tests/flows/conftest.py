"""One real embedded Prefect server for all tests of this folder, and the real command line."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drillyard_flows import server as embedded
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

DRILLYARD = str(Path(sys.executable).parent / "drillyard")

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SIMULATOR = '''
"""A world whose step takes a known time, so that a test can interrupt it."""
import time

import gymnasium
import numpy as np


class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, step_s=0.002, fail_at=None, talk=None, stuck_at=None, stuck_s=45.0):
        """Steps that take ``step_s``, and one that fails, a line each ``talk``, or a long one."""
        self.step_s, self.fail_at, self.done = step_s, fail_at, 0
        self.talk, self.stuck_at, self.stuck_s = talk, stuck_at, stuck_s

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(self.step_s)
        self.t += 1
        self.done += 1
        if self.fail_at is not None and self.done >= self.fail_at:
            raise ValueError("the pump is dry")
        if self.talk is not None and self.done % self.talk == 0:
            print(f"step {self.done} at {time.time():.2f}")
        if self.stuck_at is not None and self.done >= self.stuck_at:
            print(f"a step that takes {self.stuck_s:g} s")
            time.sleep(self.stuck_s)
        x = np.array([self.t / 20], np.float32)
        return x, float(action), False, self.t >= 20, {}


class Kept(Slow):
    """The same with a state, so that a stopped run goes on in mid-episode."""

    def state(self):
        return {"t": self.t, "done": self.done}

    def load_state(self, state):
        self.t, self.done = state["t"], state["done"]
'''


@dataclass
class Api:
    """Prefect's REST API.

    Args:
        url: ``http://host:port/api``.
        auth: ``user:password``, where it asks for one.
    """

    url: str
    auth: str = ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self._ask("POST", path, body))

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self._ask("PATCH", path, body)

    def put(self, path: str, body: dict[str, Any]) -> None:
        self._ask("PUT", path, body)

    def refused(self, path: str, body: dict[str, Any]) -> bool:
        """True when the server calls a request wrong."""
        try:
            self._ask("POST", path, body)
        except urllib.error.HTTPError as error:
            return error.code in (409, 422)
        return False

    def get(self, path: str) -> Any:
        return json.loads(self._ask("GET", path, None))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.auth:
            headers["Authorization"] = f"Basic {base64.b64encode(self.auth.encode()).decode()}"
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            headers,
            method=method,
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                # A busy SQLite is told as 503; Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def flow_run(self, name: str) -> dict[str, Any]:
        """The newest flow run of a name."""
        found = self.post(
            "/flow_runs/filter",
            {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC", "limit": 1},
        )
        assert found, f"no flow run {name}"
        return dict(found[0])

    def ended(self, flow_run: str) -> dict[str, Any] | None:
        """A flow run by its id, once it has ended."""
        (found,) = self.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        return dict(found) if found["state"]["type"] in ENDED else None

    def tasks(self, run: dict[str, Any], *ended: str) -> dict[str, dict[str, Any]]:
        """Task runs of a flow run by name.

        Prefect's client tells the server of a task run in the background, so that the flow run
        may have ended before the server lists its tasks with their last states.

        Args:
            run: The flow run.
            ended: Names of task runs to wait for.
        """
        body = {"flow_runs": {"id": {"any_": [run["id"]]}}}

        def listed() -> dict[str, dict[str, Any]] | None:
            found = {t["name"]: t for t in self.post("/task_runs/filter", body)}
            there = {name for name, task in found.items() if task["state"]["type"] in ENDED}
            return found if there.issuperset(ended) else None

        return until(listed, what=f"the task runs {', '.join(ended)}", every_s=0.2)

    def artifacts(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Artifacts of a flow run by key."""
        body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        return {a["key"]: a for a in self.post("/artifacts/filter", body)}

    def errors(self, run: dict[str, Any]) -> list[str]:
        """Messages at the level ERROR and above, of a flow run and its tasks."""
        body = {"logs": {"flow_run_id": {"any_": [run["id"]]}, "level": {"ge_": logging.ERROR}}}
        return [line["message"] for line in self.post("/logs/filter", body)]

    def logs(self, run: dict[str, Any]) -> list[str]:
        """Messages of a flow run and its tasks."""
        body = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        return [line["message"] for line in self.post("/logs/filter", body)]


@pytest.fixture(scope="session")
def api(prefect_home):
    """The embedded server; it lives while this process is signed in."""
    server = embedded.acquire()
    server.wait()
    yield Api(server.api_url)
    server.release()


@dataclass
class Bench:
    """A folder with an experiment, and the command line on it."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def write(self, name: str, **more: Any) -> Path:
        """An experiment file on the slow world."""
        spec: dict[str, Any] = {
            "schema": 1,
            "name": name,
            "simulator": {"id": "world:Slow", "args": {"step_s": 0.0}},
            "learner": {"algorithm": "ppo", "args": {"n_steps": 64, "batch_size": 64}},
            "train": {"steps": 512, "checkpoint_every": 64},
            "evaluate": {"episodes": 2},
            "seeds": [1],
            "tracking": {"mlflow": None, "tensorboard": False},
            **more,
        }
        (self.folder / "world.py").write_text(SIMULATOR)
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(spec))
        return path

    def command(self, *words: str | Path) -> list[str]:
        return [DRILLYARD, *map(str, words), "--store", str(self.store)]

    def start(self, *words: str | Path, **environ: str) -> subprocess.Popen[str]:
        """A command in the background, its output in files of the folder."""
        number = len(list(self.folder.glob("*.out")))
        with (
            open(self.folder / f"{number}.out", "w") as out,
            open(self.folder / f"{number}.err", "w") as err,
        ):
            return subprocess.Popen(
                self.command(*words),
                stdout=out,
                stderr=err,
                text=True,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "DRILLYARD_DEBUG": "1", **environ},
            )

    def said(self, number: int = 0) -> str:
        """Both outputs of a command started before."""
        return (self.folder / f"{number}.out").read_text() + (
            self.folder / f"{number}.err"
        ).read_text()

    def run(
        self, *words: str | Path, timeout_s: float = PATIENCE_S, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """A command, waited for."""
        return run_process(
            self.command(*words),
            cwd=self.folder,
            more={"DRILLYARD_DEBUG": "1", **environ},
            timeout=timeout_s,
        )

    def ended(self, child: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> int:
        """Exit code of a command in the background."""
        return child.wait(timeout_s)

    def board_step(self, experiment: str, run: str = "t0001-s1") -> int:
        """Steps that the run has done, as its board says; 0 before the first word."""
        try:
            board = json.loads((self.store / experiment / "board" / f"{run}.json").read_text())
        except (OSError, ValueError):
            return 0
        return int(board["step"]) if board["phase"] == "train" else 10**9

    def weights(self, experiment: str, run: str = "t0001-s1") -> str:
        """sha256 of the final weights, as the accepted manifest has it."""
        folder = self.store / experiment
        accepted = json.loads((folder / "runs" / run / "train.accepted.json").read_text())
        manifest = json.loads((folder / accepted["manifest"]).read_text())
        return str(manifest["files"]["policy_final.safetensors"]["sha256"])

    def leases(self, experiment: str) -> dict[str, bool]:
        """Lease id -> known to be gone."""
        folder = self.store / experiment / "leases"
        return {p.name: (p / "gone.json").exists() for p in folder.iterdir()}

    def give_back(self, experiment: str) -> None:
        """Cancel an experiment, unless its machines are gone: the command takes a second."""
        if not (self.store / experiment / "leases").exists() or not all(
            self.leases(experiment).values()
        ):
            self.run("cancel", experiment)


@pytest.fixture
def bench(tmp_path):
    """A folder of its own; whatever it rented is given back."""
    made = Bench(tmp_path)
    yield made
    for experiment in made.store.glob("*/experiment.json"):
        made.give_back(experiment.parent.name)


def lease_processes(lease: str) -> list[int]:
    """Living processes of a lease."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DRILLYARD_LEASE") == lease and (
                process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
