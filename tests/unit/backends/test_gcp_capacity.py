"""Machines that are missing: which count as lost, and how long a new one is sought."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.documents.json_types import Json
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import naming, records
from drillyard_backends.gcp.capacity import ROUND_PAUSE_S, CapacityReconciler
from drillyard_backends.gcp.errors import NoRoom
from drillyard_backends.gcp.lives import Lives
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.gcp.settings import read_settings
from drillyard_backends.gcp.zones import Place

ORDER = Order(lease_id="dy-0123456789", experiment="suite", workers=2, store_url="memory://x")
BASE = naming.base_name("dy", ORDER.lease_id)


class Zone:
    """Stands in for Google: a listing, and zones that have room or have none."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_000.0)
        self.full = False
        self.make_s = 0.0
        self.view: dict[Group, list[Managed]] = {}
        self.asked: list[tuple[str, int]] = []
        self.numbers = itertools.count(100)

    def make(self, place: Place, name: str, lease_id: str, repair: bool = False) -> None:
        """A group costs nothing, but takes time."""
        self.clock.advance(self.make_s)

    def delete(self, place: Place, name: str) -> None:
        """A group that nothing ever lived in."""
        self.view = {group: rows for group, rows in self.view.items() if group.place != place}

    def delete_machines(self, place: Place, name: str, machines: list[Managed]) -> None:
        """Removes them from the listing."""
        for rows in self.view.values():
            rows[:] = [row for row in rows if row not in machines]

    def make_machines(self, place: Place, name: str, metadata: Mapping[str, Any]) -> None:
        """Refuses at once where there is no room."""
        if self.full:
            raise NoRoom(f"{place.name} is full")
        variant = 0 if name == BASE else int(name.rpartition("-")[2])
        rows = self.view.setdefault(Group(place, variant), [])
        for each in sorted(metadata):
            machine = Machine.parse(each)
            assert machine is not None
            self.asked.append((each, variant))
            rows.append(Managed(each, machine, Stage.COMING, f"{place.path}/instances/{each}"))

    def boot(self) -> None:
        """Every machine that was asked for is up."""
        for rows in self.view.values():
            rows[:] = [
                Managed(r.name, r.machine, Stage.UP, r.address, id=r.id or str(next(self.numbers)))
                for r in rows
            ]

    def end(self, index: int) -> str:
        """A machine is listed no more; returns its name."""
        (gone,) = [r for rows in self.view.values() for r in rows if r.machine.index == index]
        for rows in self.view.values():
            if gone in rows:
                rows.remove(gone)
        return gone.name


@pytest.fixture
def zone():
    return Zone()


@pytest.fixture
def mailbox(zone):
    return Mailbox(MemoryStore(f"memory://{uuid.uuid4().hex}", zone.clock), ORDER.experiment)


def reconciler(
    zone: Zone, mailbox: Mailbox, order: Order = ORDER, **settings: Json
) -> CapacityReconciler:
    given: dict[str, Json] = {
        "project": "lab-1234",
        "bucket": "lab",
        "service_account": "a@b",
        **settings,
    }
    return CapacityReconciler(
        zone,  # type: ignore[arg-type]
        read_settings({"zones": ["europe-west1-b"], **given}),
        order,
        lambda candidate, name: None,
        lambda group, machine: None,
        Lives(list, records.DoneMachines(mailbox, ORDER.lease_id)),
        zone.clock,
    )


def leave(mailbox: Mailbox, name: str, number: int, reason: str = records.WORKER_DONE) -> None:
    left = records.MachineLeft(machine=name, reason=reason, written_at=1.0)
    mailbox.write(f"leases/{ORDER.lease_id}/left/{number}.json", left)


@pytest.mark.parametrize("idle", [True, False])
def test_a_machine_that_ended_without_work_is_not_a_loss(zone, mailbox, idle):
    """A study in bursts rented on-demand machines after three pauses, and none after twenty."""
    keeper = reconciler(zone, mailbox, on_demand_after=2, replacements=3)
    for life in range(6):
        if not idle and life == 4:
            with pytest.raises(NoRoom, match="more often than 3 times"):
                keeper.step(zone.view, 1)
            break
        assert keeper.step(zone.view, 1)[0] == 1
        zone.boot()
        keeper.step(zone.view, 1)
        name = zone.end(0)
        assert name == f"{BASE}-w0-{life}"  # a name is used once, whatever its end
        leave(mailbox, name, life, records.WORKER_DONE if idle else "the worker crashed")
    assert {variant for _, variant in zone.asked} == ({0} if idle else {0, 1})


def test_a_damaged_word_of_a_machine_counts_as_a_loss_and_stops_nothing(zone, mailbox):
    mailbox.store.put(mailbox.key(f"leases/{ORDER.lease_id}/left/7.json"), b"{")
    keeper = reconciler(zone, mailbox, replacements=3)
    keeper.step(zone.view, 1)
    zone.boot()
    keeper.step(zone.view, 1)
    zone.end(0)
    assert keeper.step(zone.view, 1)[0] == 1
    assert zone.asked[-1][0] == f"{BASE}-w0-1"


def test_a_later_shortage_is_searched_for_as_long_as_the_first(zone, mailbox):
    """One machine needs long to come, so the search never ended, and the next gave up at once."""
    keeper = reconciler(zone, mailbox, capacity_s=600.0, spot=False)
    keeper.step(zone.view, 2)
    (rows,) = zone.view.values()
    rows[0] = Managed(rows[0].name, rows[0].machine, Stage.UP, rows[0].address, id="1")
    zone.full = True
    zone.clock.advance(3_000.0)
    assert keeper.step(zone.view, 2)[0] == 2  # the other one is still coming
    zone.end(0)
    expected, _ = keeper.step(zone.view, 2)
    zone.clock.advance(ROUND_PAUSE_S)
    assert expected == 2 == keeper.step(zone.view, 2)[0]
    zone.full = False
    zone.clock.advance(ROUND_PAUSE_S)
    keeper.step(zone.view, 2)
    keeper.step(zone.view, 2)
    assert zone.asked[-1][0] == f"{BASE}-w0-1"


def test_a_refused_machine_does_not_begin_its_search_again(zone, mailbox):
    """Google takes an order and refuses it later: the time that this takes counts, too."""
    keeper = reconciler(zone, mailbox, capacity_s=600.0, stockout_s=60.0, spot=False)
    said = ""
    for _ in range(200):
        for rows in zone.view.values():
            rows[:] = [
                Managed(r.name, r.machine, r.stage, r.address, NoRoom("stock-out")) for r in rows
            ]
        try:
            keeper.step(zone.view, 1)
        except NoRoom as error:
            said = str(error)
            break
        zone.clock.advance(10.0)
    assert "no room for 1 machines" in said
    assert zone.clock.now() - 1_000.0 < 600.0 + 60.0 + 2 * ROUND_PAUSE_S


def test_a_refused_machine_that_is_still_being_deleted_is_not_a_loss(zone, mailbox):
    """Google lists it for a while: it cost an on-demand machine, and the search went on."""

    def look(earlier: list[Managed]) -> None:
        for rows in zone.view.values():
            rows[:] = [
                replace(r, trouble=NoRoom("stock-out"), sure=False)
                if r.stage is Stage.COMING
                else r
                for r in rows
                if r not in earlier
            ]

    def delete(place: Place, name: str) -> None:
        for rows in zone.view.values():
            rows[:] = [replace(r, stage=Stage.GOING, trouble=None) for r in rows]

    zone.delete = delete  # type: ignore[method-assign]
    keeper = reconciler(zone, mailbox, capacity_s=600.0, stockout_s=60.0, on_demand_after=2)
    with pytest.raises(NoRoom, match="no room for 1 machines"):
        for _ in range(60):
            going = [r for rows in zone.view.values() for r in rows if r.stage is Stage.GOING]
            keeper.step(zone.view, 1)
            look(going)
            zone.clock.advance(20.0)
    assert set(zone.asked) == {(f"{BASE}-w0-0", 0)}
    assert zone.clock.now() - 1_000.0 < 600.0 + 60.0 + 2 * ROUND_PAUSE_S


def test_a_step_reads_once_which_machines_ended_without_work(zone, mailbox, monkeypatch):
    keeper = reconciler(zone, mailbox)
    keeper.step(zone.view, 20)
    zone.boot()
    keeper.step(zone.view, 20)
    for index in range(20):
        zone.end(index)
    asked: list[str] = []
    whole = mailbox.store.list

    def counted(prefix: str) -> Any:
        asked.append(prefix)
        return whole(prefix)

    monkeypatch.setattr(mailbox.store, "list", counted)
    assert keeper.step(zone.view, 20)[0] == 20
    assert len(asked) == 1


@pytest.mark.parametrize(("make_s", "made"), [(9.0, 1), (17.0, 0)])
def test_no_machine_is_made_after_the_deadline_of_its_lease(zone, mailbox, make_s, made):
    """A group took its time, and two machines began seven seconds after their own deadline."""
    zone.make_s = make_s
    order = ORDER.model_copy(update={"deadline": zone.clock.now() + 10.0})
    reconciler(zone, mailbox, order).step(zone.view, 1)
    assert len(zone.asked) == made
