"""Backends in turn with real processes: an SSH machine and this one share a mailbox."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from drillyard.cli.main import main
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.processes import end, marked
from drillyard_backends.ssh import remote
from drillyard_backends.ssh.connection import Connection
from tests.helpers.sshd import SSHD, Sshd

pytest.importorskip("asyncssh")
pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd (Debian: openssh-server)")
FILE = """schema: 1
name: turns
workload: rl
simulator: {{id: cstr}}
learner: {{algorithm: ppo, args: {{n_steps: 64, batch_size: 64}}}}
train: {{steps: {steps}, n_envs: 1, checkpoint_every: 256}}
evaluate: {{episodes: 1}}
seeds: [1]
baselines: []
resources: {{workers: 1, threads: 1, device: cpu}}
backend: [ssh, local]
backends: {{ssh: {ssh}}}
"""


@pytest.fixture
def server(tmp_path):
    one = Sshd(tmp_path / "sshd").start()
    yield one
    Connection.close_all()
    one.stop()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    store = open_store(str(tmp_path / "store"))
    for entry in Ledger(Mailbox(store, "turns")).entries():
        end(marked(entry.lease.lease_id), grace_s=5.0)


def written(folder: Path, server: Sshd, steps: int = 256) -> str:
    ssh = {
        **{k: str(v) if isinstance(v, Path) else v for k, v in server.settings.items()},
        "python": sys.executable,
        "runtime": str(folder / "runtime"),
        "stop_grace_s": 5.0,
    }
    path = folder / "turns.yaml"
    path.write_text(FILE.format(steps=steps, ssh=json.dumps(ssh)))
    return str(path)


def test_plan_drops_a_machine_that_does_not_answer_and_runs_on_the_other(folder, server, capsys):
    path, store = written(folder, server), str(folder / "store")
    assert main(["plan", path, "--store", store, "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["places"]
    assert [(p["backend"], p["used"], p["per_hour"]) for p in both] == [
        ("ssh", True, 0.0),
        ("local", True, 0.0),
    ]
    Connection.close_all()
    server.stop()
    assert main(["plan", path, "--store", store]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "backend ssh" in text and "is not used, because it cannot work now" in text
    assert "tried in this order: local (free)" in text
    assert main(["run", path, "--store", store]) == 0
    entries = Ledger(Mailbox(open_store(store), "turns")).entries()
    assert [e.intent.backend for e in entries] == ["local"]


def test_a_machine_says_whether_it_reaches_a_store_by_its_own_means(tmp_path, monkeypatch):
    """No key is copied to it: a bucket that it cannot read drops it from the list."""
    pytest.importorskip("google.cloud.storage")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))
    why = remote._unreachable("gs://a-bucket/folder")
    assert why is not None and "Google" in why
    assert remote._unreachable(str(tmp_path)) is None
    order: dict[str, Any] = {
        "lease_id": "dy-0123456789",
        "experiment": "x",
        "store_url": "memory://there",
    }
    asked = {"verb": "check", "settings": {}, "order": order, "folder": None}
    answer = remote.answer(json.dumps(asked))
    result = answer["result"]
    assert isinstance(result, dict) and result["store"] is None
