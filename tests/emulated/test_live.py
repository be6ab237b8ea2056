"""The whole way of a user on a cloud: the same test on the emulator and on the real one.

On a real cloud, which costs a few cents: name a project with the roles of ``deployments/gcp``, or
a workspace and an environment with drillyard as docs/how-to/azure.md does, and what an experiment
of yours would name; then ``python -m pytest -m live_gcp tests/emulated``, or ``-m live_azure``:

    DRILLYARD_GCP_PROJECT, DRILLYARD_GCP_BUCKET, DRILLYARD_GCP_SERVICE_ACCOUNT
    DRILLYARD_GCP_IMAGE (or _IMAGE_FAMILY, _CONTAINER, _WHEELHOUSE), DRILLYARD_GCP_ZONES …
    credentials as gcloud leaves them, or GOOGLE_APPLICATION_CREDENTIALS

    DRILLYARD_AZURE_SUBSCRIPTION_ID, DRILLYARD_AZURE_RESOURCE_GROUP, DRILLYARD_AZURE_WORKSPACE
    DRILLYARD_AZURE_ENVIRONMENT (or _IMAGE, _BUILD), DRILLYARD_AZURE_IDENTITY …
    a sign-in as ``az login`` leaves it, or AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from drillyard.system.processes import end, marked
from drillyard_emulators.http.handle import AzureEmulator, Emulator, GcpEmulator
from tests.helpers.azure_lab import needs_azurite
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
NEEDED = {
    "gcp": ("PROJECT", "BUCKET", "SERVICE_ACCOUNT"),
    "azure": ("SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE"),
}
GIVEN = dict(os.environ)
"""As it was before the tests took every DRILLYARD_ variable out of it."""


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


def laptop_in(folder: Path, env: Mapping[str, str], patience_s: float) -> Iterator[Laptop]:
    """A laptop with a home of its own for everything that drillyard and Prefect keep."""
    own = {"DRILLYARD_HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "prefect")}
    yield Laptop(folder, {**env, **own}, patience_s)
    end(marked(str(folder / "prefect"), "PREFECT_HOME"), grace_s=5.0)


def named(cloud: Emulator) -> dict[str, str]:
    """What the user's settings name of an emulated cloud."""
    if isinstance(cloud, AzureEmulator):
        where = cloud.workspace
        return {
            "AZURE_SUBSCRIPTION_ID": where["subscription_id"],
            "AZURE_RESOURCE_GROUP": where["resource_group"],
            "AZURE_WORKSPACE": where["workspace_name"],
            "AZURE_IMAGE": "mcr.example/drillyard:1",
            "AZURE_IDENTITY": cloud.identity,
        }
    assert isinstance(cloud, GcpEmulator)
    cloud.ask("catalogue", images=["drillyard"])
    return {
        "GCP_PROJECT": cloud.project,
        "GCP_BUCKET": f"live-{uuid.uuid4().hex[:8]}",
        "GCP_SERVICE_ACCOUNT": cloud.service_account,
        "GCP_LISTING_LAG_S": "0.2",
        "GCP_IMAGE": f"projects/{cloud.project}/global/images/drillyard",
    }


@pytest.fixture
def emulated(tmp_path, kind):
    emulator = AzureEmulator if kind == "azure" else GcpEmulator
    # A short path: the machines' sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="dy") as folder, emulator(Path(folder)) as cloud:
        settings = {f"DRILLYARD_{name}": value for name, value in named(cloud).items()}
        yield from laptop_in(tmp_path, cloud.environ(**settings, HOME=str(tmp_path)), 600.0)


@pytest.fixture
def real(tmp_path, kind):
    names = [f"DRILLYARD_{kind.upper()}_{name}" for name in NEEDED[kind]]
    missing = [name for name in names if name not in GIVEN]
    if missing:
        pytest.skip(f"no real account is named: set {', '.join(missing)}")
    yield from laptop_in(tmp_path, GIVEN, 3000.0)


def the_whole_way(laptop: Laptop, kind: str) -> None:
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
@pytest.mark.parametrize("kind", ["gcp", pytest.param("azure", marks=needs_azurite())])
def test_the_whole_way_on_the_emulated_cloud(emulated, kind):
    the_whole_way(emulated, kind)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("gcp", marks=pytest.mark.live_gcp),
        pytest.param("azure", marks=pytest.mark.live_azure),
    ],
)
def test_the_whole_way_on_the_real_cloud(real, kind):
    the_whole_way(real, kind)
