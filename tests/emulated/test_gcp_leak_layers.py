"""Four layers keep machines from being left behind; each one alone does what it is for.

Each test takes other layers away (no command is given again, no reaper comes, machines do nothing)
and looks at the emulated cloud's own books. With its own layer switched off (``on`` is False) the
same day leaves something behind. Listings are late, time is virtual.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Backend, Cost, Lease, Order, open_backend
from drillyard.driver.driver import Driver
from drillyard.errors import StoreUnavailable
from drillyard.leases.ledger import Intent, Ledger
from drillyard.leases.reaper import reap
from drillyard.mailbox import Mailbox, open_store
from drillyard_backends.gcp import template
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_emulators.http.handle import GcpEmulator
from tests.benchmarks.played_machines import unplayed
from tests.benchmarks.virtual_clock import VirtualClock
from tests.helpers.tiny_backend import ThreadBackend, tiny

SPEED, LAG_S, HOURS = 20.0, 20.0, 10
LIMIT_S = HOURS * 3600.0
STORE = "gs://layers"
SETTINGS = {"LISTING_LAG_S": str(LAG_S), "BUCKET": "layers", "ZONES": '["europe-west1-b"]'}

layer = pytest.mark.parametrize("on", [True, pytest.param(False, marks=pytest.mark.slow)])


class Killed(BaseException):
    """A driver that is gone: nothing of it runs any more."""


class Forsaken(GcpBackend):
    """Its driver is killed as soon as Google has what was asked for."""

    def provision(self, order: Order) -> Lease:
        super().provision(order)
        raise Killed


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud whose time drillyard goes by, with machines that only exist."""
    with unplayed(tmp_path / "cloud", SPEED) as made:
        made.physics(listing_lag_s=LAG_S)
        mine = {**SETTINGS, "PROJECT": made.project, "SERVICE_ACCOUNT": made.service_account}
        told = {f"DRILLYARD_GCP_{name}": value for name, value in mine.items()}
        for name, value in {**made.env, **told, "DRILLYARD_HOME": str(tmp_path / "home")}.items():
            monkeypatch.setenv(name, value)
        VirtualClock.of(made, SPEED).install(monkeypatch.setattr)
        yield made


def driver(folder: Path, backend: Backend) -> Driver:
    """Of the one experiment of these tests, opened."""
    where = backend.kind if backend.kind == "gcp" else "local"
    loaded = tiny(
        folder / "user",
        name="e",
        backend=where,
        seeds=[1],
        budget={"max_hours": HOURS, "max_cost": 100},
    )
    made = Driver(loaded, Mailbox(open_store(STORE), "e"), backend)
    made.open()
    return made


def kill_one(folder: Path, cloud: GcpEmulator) -> None:
    """A driver that rents and is killed; its machine comes up."""
    settings = open_backend("gcp").config.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
    forsaken = driver(folder, Forsaken(**settings))
    with pytest.raises(Killed):
        forsaken.provision()
    forsaken.close("killed")  # its process lives on, and would be taken for the driver
    cloud.wait(lambda state: [m for m in state["machines"] if m["status"] == "RUNNING"])


def unwritten(ledger: Ledger, order: Order, backend: str, ordinal: int, cost: Cost) -> Intent:
    """An intent that is on no disk."""
    return Intent(order=order, backend=backend, ordinal=ordinal, cost=cost, written_at=0.0)


def left(cloud: GcpEmulator) -> list[Any]:
    """All that the cloud has, by its own books."""
    state = cloud.state()
    return [x for kind in ("machines", "groups", "disks", "templates") for x in state[kind]]


@layer
def test_intent_before_create(cloud, tmp_path, monkeypatch, on):
    """Killed before it wrote down what it got: the intent tells a driver of another backend."""
    with monkeypatch.context() as patch:
        if not on:
            patch.setattr(Ledger, "intend", unwritten)
        kill_one(tmp_path, cloud)
    assert [e.rented for e in Ledger(Mailbox(open_store(STORE), "e")).entries()] == [None] * on
    assert left(cloud)
    other = driver(tmp_path, ThreadBackend())
    other.provision()
    assert bool(left(cloud)) is not on
    other.teardown()
    other.close("done")


@layer
def test_teardown_until_the_listing_is_empty_for_twice_its_lag(cloud, tmp_path, monkeypatch, on):
    """A group that no listing shows yet, whose deletion says DONE and did nothing."""
    if not on:
        monkeypatch.setenv("DRILLYARD_GCP_LISTING_LAG_S", "0")
    only = driver(tmp_path, open_backend("gcp"))
    hidden_s = LIMIT_S / 2 if not on else LAG_S  # until long after an impatient one has gone
    cloud.physics(listing_lag_s=hidden_s, listing_lag_least_s=hidden_s)
    only.provision()
    cloud.physics(
        listing_lag_s=0.0, listing_lag_least_s=0.0, false_done=[{"kind": "delete", "times": 1}]
    )
    only.teardown()
    assert bool(left(cloud)) is not on
    (entry,) = Ledger(Mailbox(open_store(STORE), "e")).entries()
    assert entry.gone is not None and entry.gone.confirmed
    only.close("done")


@layer
def test_the_same_command_again_adopts_and_ends(cloud, tmp_path, monkeypatch, on):
    kill_one(tmp_path, cloud)
    if not on:  # it knows nothing of what was before
        monkeypatch.setattr(Ledger, "entries", lambda _: [])
    again = driver(tmp_path, open_backend("gcp"))
    if on:
        again.provision()
        cloud.ask("play", store_url=STORE)
        again.setup()
        assert again.wait("t0001-s1.store").attempt == 1
    else:
        with pytest.raises(StoreUnavailable, match="was written down by another driver"):
            again.provision()
    again.teardown()
    assert len(cloud.state()["all_machines"]) == 1
    assert bool(left(cloud)) is not on
    again.close("done")


@layer
def test_reap_by_name_and_label(cloud, tmp_path, monkeypatch, on):
    """Nobody came back, this machine forgot, and the bucket is gone: the names say what is ours.

    By then the machine has reached its limit; its group is there still.
    """
    kill_one(tmp_path, cloud)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "another home"))
    store = open_store(STORE)
    for info in list(store.list("")):
        store.delete(info.key)
    if not on:
        monkeypatch.setattr(GcpBackend, "leases", lambda _: iter(()))
    cloud.advance(2 * LIMIT_S)
    VirtualClock.of(cloud, SPEED).install(monkeypatch.setattr)
    assert cloud.state()["groups"]
    report = reap(["gcp"])
    assert [outcome.deleted for outcome in report.outcomes] == [True] * on
    assert bool(left(cloud)) is not on


@layer
def test_the_machines_own_deadline(cloud, tmp_path, monkeypatch, on):
    """Nobody ever comes, and the machine itself hangs: Google ends it at its limit."""
    if not on:
        monkeypatch.setattr(template, "life_s", lambda *_: template.MAX_LIFE_S)
    kill_one(tmp_path, cloud)
    cloud.advance(LIMIT_S + 60.0)
    cloud.advance(60.0)  # what the limit set going is done too when this returns
    state = cloud.wait(lambda state: not on or not (state["machines"] or state["disks"]))
    assert [m["ended_by"] for m in state["all_machines"]] == ["reached its limit" if on else ""]
