"""Each of the six phases leaves something behind that is not there when its body is `return`.

The flow is called by itself, as a deployment would: `drillyard run` rents beside Prefect's start,
so an empty task `provision` would go unnoticed there.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Bench, lease_processes
from tests.helpers.processes import run_process

NAME = "bodies"
CALL = """
import json, sys
from drillyard_backends.local import LocalBackend
from drillyard_flows.experiment import experiment
LocalBackend.console = lambda self, lease: f"https://cloud.example/{lease.lease_id}"
print(json.dumps(experiment(file=sys.argv[1], store=sys.argv[2], name=sys.argv[3])))
"""


@dataclass
class Flown:
    """One flow run that is over."""

    code: int
    out: str
    errors: str
    folder: Path
    """The mailbox."""
    log: list[str]
    left: dict[str, list[int]]
    """Lease -> living processes, as the flow left them."""

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def files(self, phase: str) -> dict[str, dict[str, Any]]:
        """Files of an accepted result, each of them there with its hash."""
        accepted = self.read(f"runs/t0001-s1/{phase}.accepted.json")
        manifest = self.folder / accepted["manifest"]
        files: dict[str, dict[str, Any]] = json.loads(manifest.read_text())["files"]
        return files

    @property
    def lease(self) -> str:
        (path,) = (self.folder / "leases").iterdir()
        return path.name


@pytest.fixture(scope="module")
def flown(api, tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("bodies"))
    file = bench.write(NAME, evaluate={"episodes": 3}, baselines=["random"])
    done = run_process(
        [sys.executable, "-c", CALL, str(file), str(bench.store), NAME],
        cwd=bench.folder,
        more={
            "PREFECT_API_URL": api.url,
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.3",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        },
    )
    leases = bench.store / NAME / "leases"
    left = {p.name: lease_processes(p.name) for p in leases.glob("*")}
    yield Flown(
        done.returncode,
        done.stdout,
        done.stderr,
        bench.store / NAME,
        api.logs(api.flow_run(NAME)),
        left,
    )
    bench.give_back(NAME)


def test_the_flow_by_itself_returns_where_the_results_are(flown):
    assert flown.code == 0, flown.errors
    returned = json.loads(flown.out)
    assert returned["runs"]["t0001-s1"]["phase"] == "store"
    stored = returned["runs"]["t0001-s1"]
    manifest = (flown.folder / stored["manifest"]).read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == stored["manifest_sha256"]
    assert Path(returned["report"]).is_file()


def provision(flown: Flown) -> None:
    assert flown.read(f"leases/{flown.lease}/rented.json")
    assert f"lease {flown.lease} on local" in flown.log


def setup(flown: Flown) -> None:
    assert "1 worker(s) ready" in flown.log
    assert flown.read("timings/1.json")["seconds"]["setup"] > 0
    (worker,) = (flown.folder / "workers").glob("*.json")
    assert json.loads(worker.read_text())["lease"] == flown.lease


def train(flown: Flown) -> None:
    assert _accepted(flown, "train") == "512 steps"
    files = flown.files("train")
    folder = flown.folder / "runs/t0001-s1/attempts/train-1"
    weights = (folder / "policy_final.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == files["policy_final.safetensors"]["sha256"]


def evaluate(flown: Flown) -> None:
    assert _accepted(flown, "evaluate").startswith("policy used")
    assert "evaluation/episodes.json" in flown.files("evaluate")
    episodes = flown.read("runs/t0001-s1/attempts/evaluate-1/evaluation/episodes.json")
    assert sorted(e["policy"] for e in episodes) == ["agent"] * 3 + ["random"] * 3
    assert {e["length"] for e in episodes} == {20}


def store(flown: Flown) -> None:
    assert _accepted(flown, "store") == "targets: the mailbox"
    published = flown.folder / "runs/t0001-s1/policy/final_model.zip"
    want = flown.files("train")["final_model.zip"]["sha256"]
    assert hashlib.sha256(published.read_bytes()).hexdigest() == want


def teardown(flown: Flown) -> None:
    assert flown.left == {flown.lease: []}
    assert (flown.folder / "leases" / flown.lease / "gone.json").exists()
    assert "all leases were torn down" in flown.log


def _accepted(flown: Flown, phase: str) -> str:
    """What the task said of the result, up to a comma."""
    said = f"t0001-s1.{phase}: attempt 1 accepted. "
    found = [line for line in flown.log if line.startswith(said)]
    assert len(found) == 1, flown.log
    return re.split(",", found[0].removeprefix(said))[0]


@pytest.mark.parametrize(
    "phase", [provision, setup, train, evaluate, store, teardown], ids=lambda f: f.__name__
)
def test_phase_left_its_effect(flown, phase):
    phase(flown)


def test_machines_are_linked_where_their_provider_shows_them(api, flown):
    address = f"https://cloud.example/{flown.lease}"
    assert address in api.artifacts(api.flow_run(NAME))[f"machines-{NAME}"]["data"]
    assert f"machines: {address}" in flown.log
