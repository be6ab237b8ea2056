"""The reaper on the emulated Google Cloud: by label, limit, mailbox; nothing else touched."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Cost, Order
from drillyard.cli.main import main
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.records import ExperimentRecord
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.group_ender import end_groups
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.compute_client import Compute
from tests.helpers.patience import until
from tests.helpers.storage_client import a_client

HOUR = 3600.0
LOST = "gs://lost-bucket"
"""A store that is deleted while machines work for it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with GcpEmulator(tmp_path_factory.mktemp("reap-cloud")) as cloud:
        cloud.physics(processes=False)
        yield cloud


@pytest.fixture
def cloud(world, tmp_path, monkeypatch):
    settings = {
        "PROJECT": world.project,
        "BUCKET": f"lab-{uuid.uuid4().hex[:8]}",
        "SERVICE_ACCOUNT": world.service_account,
        "LISTING_LAG_S": "0.5",
        "ZONES": '["europe-west1-b"]',
    }
    for name, value in {
        **world.env,
        **{f"DRILLYARD_GCP_{k}": v for k, v in settings.items()},
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield world
    world.clear_faults()
    world.physics(listing_lag_s=0, false_done=[])
    world.ask("project", denied=[], disabled=[])


@pytest.fixture
def backend(cloud):
    from drillyard.backend import open_backend

    made = open_backend("gcp")
    assert isinstance(made, GcpBackend)
    made.prepare_store(made.store_url())
    return made


def order(backend: GcpBackend, name: str, **more: Any) -> Order:
    given: dict[str, Any] = {
        "lease_id": f"dy-{uuid.uuid4().hex[:10]}",
        "experiment": name,
        "workers": 1,
        "store_url": backend.store_url(),
        "deadline": time.time() + HOUR,
        **more,
    }
    return Order(**given)


def experiment(backend: GcpBackend, name: str) -> Mailbox:
    mailbox = Mailbox(open_store(backend.store_url()), name)
    mailbox.write(
        "experiment.json", ExperimentRecord(name=name, spec={}, identity="x", created_at=1)
    )
    return mailbox


def rented(backend: GcpBackend, mailbox: Mailbox) -> str:
    """A lease as a driver rents it."""
    ledger = Ledger(mailbox)
    ordinal, name = ledger.next_lease()
    wanted = order(backend, mailbox.experiment, lease_id=name)
    ledger.intend(wanted, "gcp", ordinal, Cost(per_hour=1.0))
    ledger.rented(backend.provision(wanted))
    return name


def left(cloud: GcpEmulator, lease: str) -> bool:
    """Anything of a lease in the emulator's own books."""
    state = cloud.state()
    things = [state[k] for k in ("machines", "groups", "disks", "templates")]
    return lease.removeprefix("dy-") in str(things)


def reaped(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["reap", "--on", "gcp", "--json", *words])
    found = json.loads(capsys.readouterr().out)
    return code, {one["lease"]: one for one in found["leases"]}


def expired(capsys: pytest.CaptureFixture[str], *leases: str) -> None:
    """Wait until a reaper would delete these: the clocks of an answer are right to a second."""
    until(
        lambda: all(
            reaped(capsys, "--dry-run", "--grace", "0s")[1].get(x, {}).get("verdict") == "expired"
            for x in leases
        ),
        what="leases that have expired",
    )


def test_what_has_expired_goes_and_what_lives_is_protected_or_foreign_stays(
    cloud, backend, capsys
):
    driven_box = experiment(backend, "driven")
    lock = DriverLock(driven_box)
    lock.take(["drillyard", "run"])
    driven = rented(backend, driven_box)
    done_box = experiment(backend, "done")
    done, kept = rented(backend, done_box), rented(backend, done_box)
    a_client(cloud).create_bucket(LOST.removeprefix("gs://"))
    overdue = order(backend, "lost", store_url=LOST, deadline=time.time() - HOUR)
    backend.provision(overdue)
    limited = order(backend, "lost", store_url=LOST)
    backend.provision(limited)
    compute = Compute(cloud)
    group = compute.group(compute.template())
    compute.create(group, "foreign-machine")
    everything = (driven, done, kept, overdue.lease_id, limited.lease_id)
    until(lambda: len(cloud.state()["machines"]) == 6, what="six machines")
    a_client(cloud).bucket(LOST.removeprefix("gs://")).delete(force=True)
    assert main(["protect", kept, "--until", "2h", "--store", backend.store_url()]) == 0
    assert "(mailbox, machines)" in capsys.readouterr().out

    expired(capsys, done, overdue.lease_id)
    code, found = reaped(capsys, "--dry-run", "--grace", "0s")
    assert {lease: one["verdict"] for lease, one in found.items()} == {
        driven: "live",
        done: "expired",
        kept: "protected",
        overdue.lease_id: "expired",
        limited.lease_id: "live",
    }
    assert all(left(cloud, lease) for lease in everything)

    code, found = reaped(capsys, "--grace", "0s")
    assert code == 0, found
    assert {x for x, one in found.items() if one["deleted"]} == {done, overdue.lease_id}
    assert [left(cloud, lease) for lease in everything] == [True, False, True, False, True]
    assert "foreign-machine" in str(cloud.state()["machines"])
    gone = {e.intent.order.lease_id: e.gone for e in Ledger(done_box).entries()}
    assert gone[kept] is None and gone[done] is not None and gone[done].confirmed
    audit = [json.loads(x) for x in Path("home/audit.jsonl").read_text().splitlines()]
    assert {(x["action"], x["lease"]) for x in audit} == {
        ("protected", kept),
        *((a, x) for a in ("deleting", "deleted") for x in (done, overdue.lease_id)),
    }
    lock.release("done")
    assert main(["protect", kept, "--off", "--store", backend.store_url()]) == 0
    code, found = reaped(capsys, "--grace", "0s")
    assert {x for x, one in found.items() if one["deleted"]} == {kept, driven}
    compute.drop(group)
    backend.teardown(backend.provision(limited))


def test_late_listings_and_deletes_that_were_not_are_waited_out(cloud, backend, capsys):
    lease = rented(backend, experiment(backend, "e"))
    until(lambda: cloud.state()["machines"], what="a machine")
    cloud.physics(listing_lag_s=0.4, false_done=[{"kind": "delete", "times": 1}])
    expired(capsys, lease)
    code, found = reaped(capsys, "--grace", "0s")
    assert code == 0 and found[lease]["deleted"]
    assert not left(cloud, lease)


def test_without_the_right_to_delete_the_second_failure_is_told(
    cloud, backend, capsys, monkeypatch
):
    mailbox = experiment(backend, "e")
    lease = rented(backend, mailbox)
    until(lambda: cloud.state()["machines"], what="a machine")
    expired(capsys, lease)
    cloud.ask(
        "project",
        disabled=[],
        denied=[
            "compute.instanceGroupManagers.delete",
            "compute.instanceGroupManagers.update",
        ],
    )
    monkeypatch.setattr("drillyard.leases.reaper.reaper.CONFIRM_S", 1.0)
    monkeypatch.setattr("drillyard_backends.gcp.backend.TEARDOWN_S", 0.0)
    for failures in (1, 2):
        code, found = reaped(capsys, "--grace", "0s")
        assert code == 4, found
        assert (found[lease]["deleted"], found[lease]["failures"]) == (False, failures)
        assert found[lease]["problem"]
    assert Ledger(mailbox).entries()[0].open
    cloud.ask("project", disabled=[], denied=[])
    assert reaped(capsys, "--grace", "0s")[0] == 0
    assert not left(cloud, lease)


def test_an_operation_that_google_no_longer_knows_proves_no_end(cloud, backend):
    """G-D28: it was taken for the end of the group, and the teardown went on to its template."""
    url = backend.store_url()
    backend.prepare_store(url)
    order = Order(lease_id=f"dy-{uuid.uuid4().hex[:10]}", experiment="e", store_url=url)
    lease = backend.provision(order)
    groups = [(g.place, backend._name(order, g.variant)) for g in backend._viewer(order).look()]
    assert groups

    def ended() -> bool:
        return end_groups(backend._groups, groups, backend._clock)

    cloud.fault("operations/[^/]+(/wait)?$", status=404, reason="notFound")
    cloud.physics(operation_s=2.0)
    assert ended() is False
    cloud.clear_faults()
    cloud.physics(operation_s=0.05)
    until(ended, what="the end of the group")
    backend.teardown(lease)
