"""``deployments/servers/compose.yaml`` without Docker: see ``composed``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.mlflow_machines import BIN as POSTGRESQL
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
APART = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def unshared() -> list[str]:
    """In front of a command that has a network and processes of its own."""
    for tool in ("caddy", "ip", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: apt-get install caddy iproute2)")
    if POSTGRESQL is None:
        pytest.skip("no PostgreSQL (Debian: apt-get install postgresql)")
    words = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), *APART]
    if run_process([*words, "true"]).returncode:
        pytest.skip("this machine lets nobody have a network of their own")
    return words


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_team_deploys_and_runs_through_the_proxy(tmp_path):
    folder = tmp_path / "composed"
    done = run_process(
        [*unshared(), sys.executable, "-m", "tests.helpers.composed", str(folder)],
        cwd=ROOT,
        timeout=2 * PATIENCE_S,
    )
    logs = {p.name: p.read_text()[-2000:] for p in folder.glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, told in found["said"].items():
        assert told["code"] == 0, (name, told, logs)
    assert "https://prefect.localhost/api answers" in found["said"]["doctor"]["text"]
    assert "https://mlflow.localhost answers" in found["said"]["doctor"]["text"]
    assert found["strangers"] == [401, 401]
    assert found["stored"] == [
        f"runs/composed/runs/t0001-s{n}/store.accepted.json" for n in (1, 2)
    ]
