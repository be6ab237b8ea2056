"""``backend: [ssh, gcp]``: a machine of one's own and the emulated Google share a bucket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.compute_v1")
pytest.importorskip("asyncssh")

from drillyard.errors import DrillyardError
from drillyard.leases.ledger import Ledger
from drillyard.mailbox.records import AttemptStart, Phase
from drillyard.system.processes import marked
from drillyard_backends.ssh.connection import Connection
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.rented import Lab
from tests.helpers.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd (Debian: openssh-server)")
ALONE = {"NO_GCE_CHECK": "true"}
"""The environment of a machine that has no identity at Google."""
FILE = """schema: 1
name: turns
{work}
resources: {{workers: 1, threads: 1, device: cpu}}
budget: {{max_hours: 1, max_cost: 5}}
backend: [gcp, ssh]
backends: {{ssh: {ssh}}}
"""
MOCK = "workload: mock"
REACTOR = """workload: rl
simulator: {id: cstr}
learner: {algorithm: ppo, args: {n_steps: 64, batch_size: 64}}
train: {steps: 20000, n_envs: 1, checkpoint_every: 256}
evaluate: {episodes: 1}
seeds: [1]
baselines: []"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        laptop = Lab(cloud, tmp_path, monkeypatch)
        try:
            yield laptop
        finally:
            Connection.close_all()
            laptop.close()


def den(lab: Lab, env: dict[str, str]) -> Sshd:
    """A machine of one's own."""
    return Sshd(lab.folder / "sshd", env=env).start()


def file_of(lab: Lab, server: Sshd, work: str) -> str:
    ssh = {
        **{k: str(v) if isinstance(v, Path) else v for k, v in server.settings.items()},
        "python": sys.executable,
        "runtime": str(lab.folder / "runtime"),
        "stop_grace_s": 5.0,
    }
    return str(lab.write(FILE.format(work=work, ssh=json.dumps(ssh))))


def test_a_machine_that_cannot_read_the_bucket_is_dropped_with_the_reason(lab):
    server = den(lab, ALONE)
    try:
        path = file_of(lab, server, MOCK)
        places = json.loads(lab.run("plan", path, "--json"))["places"]
        assert [(p["backend"], p["used"]) for p in places] == [("gcp", True), ("ssh", False)]
        assert "cannot reach gs://" in places[1]["why_not"]
        assert "copies no key" in places[1]["why_not"]
        assert places[0]["per_hour"] > 0 and places[0]["egress_per_gb"] is None
        assert places[1]["egress_per_gb"] == 0.12
        assert lab.left() == {}
    finally:
        server.stop()


@pytest.mark.slow
def test_a_run_of_the_free_machine_continues_on_google_from_its_checkpoint(lab):
    server = den(lab, {**ALONE, **lab.cloud.env})
    try:
        path = file_of(lab, server, REACTOR)
        driver = lab.start("run", path)
        mailbox = lab.mailbox("turns")
        prefix = "turns/runs/t0001-s1/attempts/train-1/checkpoints/"

        def checkpoint() -> bool:
            assert driver.poll() is None, lab.said
            with contextlib.suppress(DrillyardError):  # there is no bucket at first
                return any(i.key.endswith("manifest.json") for i in mailbox.store.list(prefix))
            return False

        until(checkpoint, what="a checkpoint")
        (first,) = Ledger(mailbox).entries()
        assert first.intent.backend == "ssh" and lab.left() == {}
        # The machine is set up anew: it answers, without our processes and its identity.
        server.stop()
        for process in marked(first.lease.lease_id):
            os.kill(process.pid, signal.SIGKILL)
        server._env = ' "NO_GCE_CHECK=true"'
        server.start()
        assert driver.wait(PATIENCE_S) == 0, lab.said + lab.serials()
        entries = Ledger(mailbox).entries()
        assert [(e.intent.backend, e.gone and e.gone.reason) for e in entries] == [
            ("ssh", "lost"),
            ("gcp", "torn down"),
        ]
        assert all(e.gone is not None and e.gone.confirmed for e in entries)
        accepted = mailbox.accepted("t0001-s1", Phase.TRAIN)
        assert accepted is not None and accepted.attempt == 2
        start = mailbox.read("runs/t0001-s1/attempts/train-2/start.json", AttemptStart)
        assert start is not None and (start.resumed_step or 0) > 0
        assert lab.left() == {}
    finally:
        server.stop()
