"""An experiment in a bucket, read from a machine that has nothing of it but its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from drillyard.mailbox import open_store
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import run_process
from tests.helpers.toy import until
from tests.unit.tracking.test_boards import RUN as CURVE
from tests.unit.tracking.test_boards import begun, lines

DRILLYARD = str(Path(sys.executable).parent / "drillyard")
FILE = """schema: 1
name: adder
simulator: {id: simple-adder}
learner: {algorithm: ppo, args: {n_steps: 64, batch_size: 64}}
train: {steps: 256, n_envs: 1}
evaluate: {episodes: 2}
seeds: [1]
resources: {workers: 1}
tracking: {mlflow: null}
"""
RUN = "import drillyard, sys; drillyard.run(sys.argv[1], store=sys.argv[2], flow=False)"


@pytest.fixture(scope="module")
def place(shared_cloud, tmp_path_factory):
    """``gs://…/adder`` after a run whose workers wrote into the bucket."""
    folder = tmp_path_factory.mktemp("first-machine")
    (folder / "adder.yaml").write_text(FILE)
    url = f"gs://read-{uuid.uuid4().hex[:8]}/lab"
    before = dict(os.environ)
    os.environ.update(shared_cloud.env)
    try:
        from drillyard_backends.gcp.bucket import ensure_bucket

        ensure_bucket(open_store(url), shared_cloud.project, "europe-west1")
    finally:
        os.environ.clear()
        os.environ.update(before)
    done = run_process(
        [sys.executable, "-c", RUN, "adder.yaml", url],
        cwd=folder,
        env=shared_cloud.environ(HOME=str(folder), DRILLYARD_HOME=str(folder / "home")),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return f"{url}/adder"


@pytest.fixture
def readers_only(place, shared_cloud):
    """The experiment's place, in which nobody may write or delete."""
    writing = ["storage.objects.create", "storage.objects.delete", "storage.objects.update"]
    shared_cloud.ask("project", denied=writing)
    yield place
    shared_cloud.ask("project", denied=[])


@pytest.mark.slow
def test_every_reading_command_works_from_another_machine(readers_only, shared_cloud, tmp_path):
    """With an empty home, and until something is written no right but to read."""
    place = readers_only
    env = shared_cloud.environ(HOME=str(tmp_path), DRILLYARD_HOME=str(tmp_path / "home"))
    store, _, name = place.rpartition("/")

    def said(*words: str, code: int = 0) -> str:
        done = run_process([DRILLYARD, *words], cwd=tmp_path, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    results = json.loads(said("results", place, "--json"))
    assert [r["status"] for r in results["runs"]] == ["SUCCEEDED"]
    status = json.loads(said("status", place, "--json"))
    assert (status["status"], status["store"]) == ("SUCCEEDED", store)
    assert "store of t0001-s1" in said("logs", place)
    assert "train" in said("logs", "-f", f"{place}/t0001-s1")
    assert "adder" in said("list", "experiments", "--store", store)
    assert "t0001-s1" in said("list", "runs", "--store", place)
    page = Path(said("report", place).strip())
    assert page.is_relative_to(tmp_path / "home") and b"adder" in page.read_bytes()
    # How many event files a run has depends on how long it took.
    assert "1 new file of 1 run in" in said("tensorboard", place, "--no-serve", "--folder", "tb")
    assert list((tmp_path / "tb" / name / "t0001-s1").glob("*tfevents*"))
    assert "adder: 0.00 USD" in said("cost", place)
    shared_cloud.ask("project", denied=[])  # what was sent is written down
    said("sync", place, "--uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert "no tickets were open" in said("cancel", place)
    assert not (tmp_path / "drillyard-runs").exists()


@pytest.mark.slow
def test_tensorboard_shows_new_points_of_a_run_in_a_bucket_while_it_works(
    shared_cloud, tmp_path, monkeypatch
):
    """The server goes on; what a machine writes into the bucket comes into its curve."""
    from drillyard_backends.gcp.bucket import ensure_bucket

    url = f"gs://curves-{uuid.uuid4().hex[:8]}"
    for name, value in shared_cloud.env.items():
        monkeypatch.setenv(name, value)
    ensure_bucket(open_store(url), shared_cloud.project, "europe-west1")
    mailbox = begun(url)
    lines(mailbox, 0, 3)
    child = subprocess.Popen(
        [DRILLYARD, "tensorboard", f"{url}/e/{CURVE}", "--port", "0", "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        child.stdout.readline()
        served = re.search(r"http://127\.0\.0\.1:\d+/", child.stdout.readline())
        assert served is not None
        query = f"data/plugin/scalars/scalars?tag=ret&run=e%2F{CURVE}"

        def steps() -> list[int]:
            try:
                with urllib.request.urlopen(f"{served[0]}{query}", timeout=30) as answer:
                    return [point[1] for point in json.load(answer)]
            except OSError:  # not up yet, or it has not read the first point
                return []

        until(lambda: steps() == [0, 10, 20], what="the first points")
        lines(mailbox, 3, 2)
        until(lambda: steps() == [0, 10, 20, 30, 40], what="what the run wrote meanwhile")
        assert child.poll() is None
    finally:
        child.kill()
        child.wait(PATIENCE_S)
