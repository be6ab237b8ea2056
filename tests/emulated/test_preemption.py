"""``drillyard simulate-preemption``: the machine that works on a run is taken away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.compute_v1")

from drillyard.backend import Cost, Lease, Order
from drillyard.cli.main import main
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Claim, ExperimentRecord, RunRecord, WorkerRecord
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.patience import until

LEASE = "dy-00000000aa"


def test_the_machine_of_a_run_is_taken_away(tmp_path, monkeypatch, capsys):
    from drillyard_backends.gcp.backend import GcpBackend

    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    with GcpEmulator(tmp_path / "cloud") as cloud:
        for name, value in cloud.env.items():
            monkeypatch.setenv(name, value)
        cloud.ask("catalogue", images=["*"])
        cloud.physics(boot_s=0.0, processes=False)
        settings = {
            "project": cloud.project,
            "bucket": "unused-bucket",
            "service_account": cloud.service_account,
            "image": f"projects/{cloud.project}/global/images/drillyard",
        }
        order = Order(
            lease_id=LEASE,
            experiment="taken",
            store_url=str(tmp_path),
            workers=2,
            deadline=time.time() + 3600,
            settings=settings,
        )
        lease: Lease = GcpBackend(**settings).provision(order)
        state = cloud.wait(
            lambda state: [m["status"] for m in state["machines"]] == ["RUNNING"] * 2
        )
        _, victim = sorted(machine["name"] for machine in state["machines"])
        _mailbox(tmp_path, lease, victim)
        assert main(["simulate-preemption", "t0001-s1", "--store", str(tmp_path)]) == 0
        assert victim in capsys.readouterr().out
        until(lambda: [m["preempted"] for m in _all(cloud) if m["name"] == victim] == [True])
        assert [m["name"] for m in cloud.state()["machines"]] != [victim]


def _all(cloud: GcpEmulator) -> list[dict[str, object]]:
    found: list[dict[str, object]] = cloud.state()["all_machines"]
    return found


def _mailbox(folder: Path, lease: Lease, machine: str) -> None:
    """A mailbox in which a worker of that machine holds the run's ticket."""
    mailbox, now = Mailbox(open_store(str(folder)), "taken"), time.time()
    record = ExperimentRecord(name="taken", spec={}, identity="0", created_at=now)
    mailbox.write("experiment.json", record)
    mailbox.write("runs/t0001-s1/run.json", RunRecord(run="t0001-s1", experiment="taken", seed=1))
    ledger = Ledger(mailbox)
    ledger.intend(lease.order, "gcp", 0, Cost())
    ledger.rented(lease)
    worker = WorkerRecord(worker="w", lease=LEASE, host=machine, written_at=now)
    mailbox.write("workers/w.json", worker)
    ticket = "t0001-s1.train"
    assert mailbox.claim(Claim(ticket=ticket, attempt=1, worker="w", token="t", claimed_at=now))
