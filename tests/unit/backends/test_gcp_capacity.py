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
from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import naming, records
from drillyard_backends.gcp.boots import SILENT_S, FailedBoots, last_words
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
        self.kept: list[str] = []
        self.endings: dict[tuple[str, str], float] = {}
        self.ports: dict[str, str | None] = {}
        """What machines wrote to their serial ports, by name."""

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
    done = records.DoneMachines(mailbox, ORDER.lease_id)
    return CapacityReconciler(
        zone,  # type: ignore[arg-type]
        read_settings({"zones": ["europe-west1-b"], **given}),
        order,
        lambda candidate, name: None,
        lambda group, machine: None,
        Lives(list, done),
        FailedBoots(
            lambda group, machine: zone.ports.get(machine.name),
            lambda: records.begun(mailbox, ORDER.lease_id),
            done.unready,
            lambda machine, text: zone.kept.append(text),
            zone.endings,
        ),
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
    assert [prefix.split("/")[-2] for prefix in asked].count("left") == 1


@pytest.mark.parametrize(("make_s", "made"), [(9.0, 1), (17.0, 0)])
def test_no_machine_is_made_after_the_deadline_of_its_lease(zone, mailbox, make_s, made):
    """A group took its time, and two machines began seven seconds after their own deadline."""
    zone.make_s = make_s
    order = ORDER.model_copy(update={"deadline": zone.clock.now() + 10.0})
    reconciler(zone, mailbox, order).step(zone.view, 1)
    assert len(zone.asked) == made


GAVE_UP = (
    "drillyard: installing\nx[1]: drillyard: no driver on 10.0.0.{}: this machine ends itself\n"
)
TWO_ZONES: dict[str, Json] = {"zones": ["europe-west1-b", "europe-west1-c"], "on_demand_after": 1}


def life(zone: Zone, keeper: CapacityReconciler, text: str | None, ended: str = "GONE") -> None:
    """A machine is made, boots, writes something, and ends."""
    assert keeper.step(zone.view, 1)[0] == 1
    zone.clock.advance(5.0)
    zone.boot()
    name = zone.asked[-1][0]
    zone.ports[name] = text
    keeper.step(zone.view, 1)
    zone.clock.advance(60.0)
    if ended == "GONE":
        zone.end(0)
    elif ended == "LOST":
        for rows in zone.view.values():
            rows[:] = [replace(row, stage=Stage.LOST) for row in rows]


def begin(mailbox: Mailbox, name: str) -> None:
    started = records.Started(machine=name, number="7", group="g", written_at=1.0)
    records.begin(mailbox, ORDER.lease_id, started)


@pytest.mark.parametrize(
    ("text", "ended", "words"),
    [
        (GAVE_UP, "GONE", "no driver on 10.0.0."),
        (GAVE_UP, "LOST", "no driver on 10.0.0."),
        ("drillyard: installing 2026-01-0{}", "LOST", "installing"),
        ("kernel: boots", "LOST", "it wrote nothing"),
        ("", "LOST", "it wrote nothing"),
    ],
)
def test_two_boots_with_the_same_last_words_end_the_search(zone, mailbox, text, ended, words):
    """Times, ids and addresses aside; each was rented as Spot, for they were not taken away."""
    keeper = reconciler(zone, mailbox, **TWO_ZONES)
    life(zone, keeper, text.format(1), ended)
    with pytest.raises(
        NoRoom, match="two machines in europe-west1-b ended in the same way"
    ) as end:
        life(zone, keeper, text.format(2), ended)
        keeper.step(zone.view, 1)
    assert words in end.value.message
    assert [variant for _, variant in zone.asked] == [0, 0]


def test_machines_that_start_together_may_meet_the_same_outage(zone, mailbox):
    keeper = reconciler(zone, mailbox)

    def fail() -> None:
        keeper.step(zone.view, 3)
        zone.boot()
        zone.ports |= {row.name: GAVE_UP for rows in zone.view.values() for row in rows}
        keeper.step(zone.view, 3)
        zone.clock.advance(60.0)
        for index in range(3):
            zone.end(index)

    fail()
    assert zone.kept == [GAVE_UP] * 3
    with pytest.raises(NoRoom, match="ended in the same way"):
        fail()


def test_the_next_lease_of_one_machine_remembers_the_words_of_the_first(zone, mailbox):
    """The first lease is gone with its only machine."""
    life(zone, reconciler(zone, mailbox), GAVE_UP)
    zone.ports.clear()
    with pytest.raises(NoRoom, match="ended in the same way"):
        life(zone, reconciler(zone, mailbox), GAVE_UP)


def test_boots_that_end_differently_are_no_preemptions_and_replaced_no_more_often(zone, mailbox):
    keeper = reconciler(zone, mailbox, replacements=3, **TWO_ZONES)
    for word in ("a", "b", "c", "d"):
        life(zone, keeper, f"drillyard: {word}: this machine ends itself")
    with pytest.raises(NoRoom, match="more often than 3 times"):
        keeper.step(zone.view, 1)
    assert {variant for _, variant in zone.asked} == {0}


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("drillyard: installing\ndrillyard: this machine is being stopped\n", "LOST"),
        ("drillyard: installing\n", "GONE"),
        (None, "LOST"),
    ],
)
def test_a_machine_that_was_taken_away_while_it_booted_is_a_preemption(zone, mailbox, text, ended):
    keeper = reconciler(zone, mailbox, on_demand_after=2)
    for _ in range(3):
        life(zone, keeper, text, ended)
    keeper.step(zone.view, 1)
    assert [variant for _, variant in zone.asked] == [0, 0, 1, 1]


def test_a_machine_that_has_begun_is_not_read_and_says_by_itself_why_it_left(zone, mailbox):
    keeper = reconciler(zone, mailbox)
    why = f"{records.UNREADY}the package index does not answer (https://x/{{}})"
    for number in (1, 2):
        keeper.step(zone.view, 1)
        zone.clock.advance(5.0)
        zone.boot()
        name = zone.asked[-1][0]
        begin(mailbox, name)
        zone.ports[name] = GAVE_UP
        keeper.step(zone.view, 1)
        zone.clock.advance(60.0)
        leave(mailbox, name, number, why.format(number))
        zone.end(0)
    with pytest.raises(NoRoom, match="the package index does not answer"):
        keeper.step(zone.view, 1)


def test_a_machine_that_stays_silent_is_replaced_once(zone, mailbox):
    keeper = reconciler(zone, mailbox)
    life(zone, keeper, "kernel: boots", "STAYS")
    zone.clock.advance(SILENT_S - 60.0)
    keeper.step(zone.view, 1)
    life(zone, keeper, "kernel: boots", "STAYS")
    assert len(zone.asked) == 2
    zone.clock.advance(SILENT_S)
    with pytest.raises(NoRoom, match="it wrote nothing"):
        keeper.step(zone.view, 1)


def test_machines_at_work_outweigh_two_that_met_the_same_outage(zone, mailbox):
    """Also if the one that worked has ended since the first failure."""
    keeper = reconciler(zone, mailbox)
    keeper.step(zone.view, 2)
    zone.boot()
    begin(mailbox, zone.asked[0][0])
    for _ in range(2):
        zone.ports[zone.asked[-1][0]] = GAVE_UP
        keeper.step(zone.view, 2)
        zone.clock.advance(60.0)
        zone.end(1)
        keeper.step(zone.view, 2)
        zone.clock.advance(5.0)
        zone.boot()
    zone.end(0)
    zone.end(1)
    keeper.step(zone.view, 1)
    assert zone.endings == {}
    life(zone, keeper, GAVE_UP)
    with pytest.raises(NoRoom, match="ended in the same way"):
        life(zone, keeper, GAVE_UP)


def test_a_silent_machine_that_google_does_not_delete_at_once_is_deleted_later(
    zone, mailbox, monkeypatch
):
    keeper = reconciler(zone, mailbox)
    life(zone, keeper, "kernel: boots", "STAYS")
    zone.clock.advance(SILENT_S)
    (silent,) = (row.name for rows in zone.view.values() for row in rows)

    def refused(*_: object) -> None:
        raise InfrastructureError("503")

    with monkeypatch.context() as patch, pytest.raises(InfrastructureError, match="503"):
        patch.setattr(zone, "delete_machines", refused)
        keeper.step(zone.view, 1)
    keeper.step(zone.view, 1)
    assert silent not in [row.name for rows in zone.view.values() for row in rows]


def test_last_words_are_the_reason_of_the_start_up_script():
    said = "a: drillyard: x: this machine ends itself\nb: drillyard: nobody has ended this machine"
    assert last_words(said) == ("x", True)
    assert last_words("drillyard: a\r\ndrillyard: b\r\n") == ("b", False)
    said = "drillyard: this machine is being stopped\ndrillyard: the agent ended with code 143\n"
    assert last_words(said) == ("this machine is being stopped", False)
    assert last_words("kernel") == ("it wrote nothing", False)
