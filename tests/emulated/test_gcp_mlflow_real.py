"""`drillyard mlflow gcp` with a real MLflow server on a real PostgreSQL."""

import json
import sys
from pathlib import Path

import pytest

from tests.emulated.test_gcp_mlflow import ME, URL
from tests.helpers.mlflow_machines import BIN
from tests.helpers.mlflow_world import World
from tests.helpers.processes import run_process

CLIENT = """
import os, sys, tempfile
import mlflow
from pathlib import Path
name, big = sys.argv[1], os.urandom(3_000_000)
mlflow.set_experiment("e")
if name == "write":
    with mlflow.start_run(run_name="one") as run:
        for step in range(20):
            mlflow.log_metric("score", step * 0.5, step=step)
        Path("big.bin").write_bytes(big)
        mlflow.log_artifact("big.bin")
else:
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.metrics["score"] == 9.5
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="big.bin",
                                               dst_path="down")
    assert Path(path).read_bytes() == Path("big.bin").read_bytes()
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(BIN is None, reason="no PostgreSQL here (Debian: postgresql)")
def test_a_real_server_on_a_real_database_through_the_command_line(tmp_path, monkeypatch):
    """up, track, down, up: the same address has the same data; strangers are turned away."""
    world = World(tmp_path / "cloud", real=True)
    env = {**world.env, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def drillyard(*words, code=0):
        done = run_process(
            [
                str(Path(sys.executable).parent / "drillyard"),
                "mlflow",
                "gcp",
                *words,
                "--project",
                "emulated-project",
                "--region",
                "europe-west1",
            ],
            input="",
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def client(what, *, ok=True, **more):
        done = run_process(
            [sys.executable, "-c", CLIENT, what],
            cwd=tmp_path,
            more={"MLFLOW_TRACKING_URI": URL, **more},
        )
        assert ("done" in done.stdout) is ok, done.stdout + done.stderr
        return done.stderr

    try:
        assert "no terminal to ask on" in drillyard("up", "--member", ME, code=2)
        assert world.mutations() == []
        text = drillyard("up", "--member", ME, "--yes")
        assert f"export MLFLOW_TRACKING_URI={URL}" in text
        auth = text.rpartition("MLFLOW_TRACKING_AUTH=")[2].split()[0]
        client("write", MLFLOW_TRACKING_AUTH=auth)
        assert "403" in client("read", ok=False, MLFLOW_TRACKING_AUTH="")
        (bucket,) = world.storage.buckets.values()
        assert any(
            o.name.endswith("big.bin") and len(o.data) == 3_000_000 for o in bucket.live.values()
        )
        assert world.postgres.sql("SELECT count(*) FROM metrics", "mlflow") == [(20,)]
        assert json.loads(drillyard("status", "--json"))["ok"] is True
        drillyard("down")
        assert world.machine is None
        assert "not there" in drillyard("status", code=4)
        drillyard("up", "--yes")
        client("read", MLFLOW_TRACKING_AUTH=auth)
        drillyard("down", "--delete-data", "--yes")
        assert world.kinds() == {"build"} and world.postgres is None
        assert world.problems == []
    finally:
        world.close()
