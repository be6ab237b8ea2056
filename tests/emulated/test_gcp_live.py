"""The whole way of a user on Google Cloud: the same test on the emulator and on a real project.

On the real cloud, which costs a few cents: name a project with the roles of ``deployments/gcp``
and what an experiment of yours would name, then ``python -m pytest -m live_gcp tests/emulated``:

    DRILLYARD_GCP_PROJECT, DRILLYARD_GCP_BUCKET, DRILLYARD_GCP_SERVICE_ACCOUNT
    DRILLYARD_GCP_IMAGE (or _IMAGE_FAMILY, _CONTAINER, _WHEELHOUSE), DRILLYARD_GCP_ZONES …
    credentials as gcloud leaves them, or GOOGLE_APPLICATION_CREDENTIALS
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from drillyard.system.processes import end, marked
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.processes import run_process

DRILLYARD = str(Path(sys.executable).parent / "drillyard")
FILE = """schema: 1
name: {name}
simulator:
  id: cstr
  wrappers: [normalize]
  lesson: {{Cref_signal: {{values: [1, 2, 3]}}}}
learner: {{algorithm: ppo, args: {{n_steps: 512}}}}
train: {{steps: 4096, n_envs: 2, checkpoint_every: 1024}}
evaluate: {{episodes: 2}}
seeds: [1, 2]
backend: {kind}
budget: {{max_hours: 0.5, max_cost: 2}}
resources: {{workers: 2, threads: 1}}
tracking: {{mlflow: null}}
"""
NEEDED = ("PROJECT", "BUCKET", "SERVICE_ACCOUNT")


@dataclass
class Laptop:
    """A folder, a home of its own, and the command line."""

    folder: Path
    env: Mapping[str, str]
    patience_s: float
    errors: str = ""
    """What the last command said besides its output."""

    def run(self, *words: str, code: int = 0) -> str:
        """A command's output; it must end with ``code``."""
        done = run_process(
            [DRILLYARD, *words], cwd=self.folder, env=dict(self.env), timeout=self.patience_s
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.errors = done.stderr
        return done.stdout


def own(folder: Path) -> dict[str, str]:
    """A home of its own for everything that drillyard and Prefect keep."""
    return {"DRILLYARD_HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "prefect")}


@pytest.fixture
def emulated(tmp_path):
    # A short path: the machines' sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="dy") as folder, GcpEmulator(Path(folder)) as cloud:
        cloud.ask("catalogue", images=["drillyard"])
        settings = {
            "PROJECT": cloud.project,
            "BUCKET": f"live-{uuid.uuid4().hex[:8]}",
            "SERVICE_ACCOUNT": cloud.service_account,
            "LISTING_LAG_S": "0.2",
            "IMAGE": f"projects/{cloud.project}/global/images/drillyard",
        }
        more = {f"DRILLYARD_GCP_{k}": v for k, v in settings.items()}
        env = cloud.environ(**more, HOME=str(tmp_path), **own(tmp_path))
        yield Laptop(tmp_path, env, 280.0)
        end(marked(str(tmp_path / "prefect"), "PREFECT_HOME"), grace_s=5.0)


@pytest.fixture
def real(tmp_path):
    missing = [f"DRILLYARD_GCP_{n}" for n in NEEDED if f"DRILLYARD_GCP_{n}" not in GIVEN]
    if missing:
        pytest.skip(f"no real project is named: set {', '.join(missing)}")
    yield Laptop(tmp_path, {**GIVEN, **own(tmp_path)}, 1800.0)
    end(marked(str(tmp_path / "prefect"), "PREFECT_HOME"), grace_s=5.0)


GIVEN = dict(os.environ)
"""As it was before the tests took every DRILLYARD_ variable out of it."""


def the_whole_way(laptop: Laptop, kind: str = "gcp") -> None:
    """Plan, run, read from the bucket, pay, and find nothing left."""
    name = f"live-{uuid.uuid4().hex[:8]}"
    (laptop.folder / "live.yaml").write_text(FILE.format(name=name, kind=kind))
    plan = json.loads(laptop.run("plan", "live.yaml", "--json"))
    assert plan["possible"] and plan["machines"] == 2 and plan["cost"]["total"] <= 2
    store = plan["store"]
    laptop.run("run", "live.yaml")
    results = json.loads(laptop.run("results", f"{store}/{name}", "--json"))
    assert [r["status"] for r in results["runs"]] == ["SUCCEEDED"] * 2
    assert all(r["step"] == 4096 for r in results["runs"])
    laptop.run("run", "live.yaml")
    assert "nothing to do" in laptop.errors
    (bill,) = json.loads(laptop.run("cost", f"{store}/{name}", "--json"))
    assert 0 < bill["total"] < 2
    assert all(i["confirmed"] and i["ended_at"] for i in bill["intervals"])
    listed = json.loads(laptop.run("reap", "--dry-run", "--on", kind, "--json"))["leases"]
    assert [one for one in listed if one["experiment"] == name] == []


@pytest.mark.slow
def test_the_whole_way_on_the_emulated_cloud(emulated):
    the_whole_way(emulated)


@pytest.mark.live_gcp
@pytest.mark.timeout(3600)
def test_the_whole_way_on_the_real_cloud(real):
    the_whole_way(real)
