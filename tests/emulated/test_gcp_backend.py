"""The Google Cloud backend on the emulated Compute Engine: contract, capacity, faults, ends."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from drillyard.backend import Liveness, Order
from drillyard.errors import ControlPlaneError, DrillyardError, NoCapacity, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.testing.backend_suite import BackendSuite
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import records, rights
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.gcp.zones import Place, candidates
from drillyard_emulators.http.handle import GcpEmulator
from tests.benchmarks.virtual_clock import VirtualClock
from tests.emulated.troubles import no_requests, refusals
from tests.helpers.patience import until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
    with GcpEmulator(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def here(world: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcpEmulator]:
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    yield world
    world.clear_faults()
    plain = {"stockouts": [], "false_done": [], "boot_failures": 0, "notice_s": 30}
    world.physics(**plain, listing_lag_s=0, processes=True, lost_stay_listed=True, unreachable=[])


@pytest.fixture
def settings(here: GcpEmulator) -> dict[str, Any]:
    return {
        "project": here.project,
        "bucket": f"lab-{uuid.uuid4().hex[:8]}",
        "service_account": here.service_account,
        "listing_lag_s": 0.0,
        # Machines without work must not leave before a slow test has looked at them.
        "idle_s": 3600,
    }


@pytest.fixture
def backend(settings: dict[str, Any]) -> GcpBackend:
    made = GcpBackend(**settings)
    made.prepare_store(made.store_url())
    return made


@pytest.fixture
def order(backend: GcpBackend) -> Order:
    return Order(
        lease_id=f"dy-{uuid.uuid4().hex[:10]}",
        experiment="suite",
        workers=1,
        store_url=backend.store_url(),
    )


class TestGcpBackend(BackendSuite):
    def broken(self, error):
        return no_requests(error)

    def machine(self, lease):
        return f"{lease.lease_id}-w0-0"

    @pytest.fixture(autouse=True)
    def _cloud(self, here):
        self.cloud = here

    def troubles(self, backend):
        yield from super().troubles(backend)
        yield from refusals(self.cloud, "compute.googleapis.com")

    @pytest.fixture
    def settings(self, settings):
        return settings

    @pytest.fixture
    def backend(self, backend):
        return backend

    @pytest.fixture
    def order(self, order):
        return order


class TestLateListings(BackendSuite):
    """The same contract where listings are late by up to half a minute, on a clock of ours."""

    SPEED = 30.0

    def broken(self, error):
        return no_requests(error)

    def machine(self, lease):
        return f"{lease.lease_id}-w0-0"

    @pytest.fixture(scope="class")
    def late(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
        with GcpEmulator(tmp_path_factory.mktemp("late"), speed=self.SPEED) as cloud:
            cloud.physics(listing_lag_s=30.0)
            yield cloud

    @pytest.fixture
    def settings(self, late: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        for name, value in late.env.items():
            monkeypatch.setenv(name, value)
        return {
            "project": late.project,
            "bucket": f"lab-{uuid.uuid4().hex[:8]}",
            "service_account": late.service_account,
            "listing_lag_s": 30.0,
        }

    @pytest.fixture
    def backend(self, late: GcpEmulator, settings: dict[str, Any]) -> GcpBackend:
        made = GcpBackend(VirtualClock.of(late, self.SPEED), **settings)
        made.prepare_store(made.store_url())
        return made

    @pytest.fixture
    def order(self, backend: GcpBackend) -> Order:
        return Order(
            lease_id=f"dy-{uuid.uuid4().hex[:10]}",
            experiment="suite",
            workers=1,
            store_url=backend.store_url(),
        )

    @pytest.mark.slow
    def test_another_process_needs_only_the_text(self, backend, order, settings):
        """It does not depend on the listing, and starts processes."""
        super().test_another_process_needs_only_the_text(backend, order, settings)


def machines(cloud: GcpEmulator, order: Order, all_: bool = False) -> list[dict[str, Any]]:
    """What the emulator's own books have of a lease."""
    found = cloud.state()["all_machines" if all_ else "machines"]
    return [m for m in found if m["labels"].get("drillyard-lease") == order.lease_id]


def nothing_left(cloud: GcpEmulator, order: Order) -> bool:
    """No machine, disk, group or template of a lease by the emulator's own books."""
    digits = order.lease_id.removeprefix("dy-")
    state = cloud.state()
    return digits not in str([state[k] for k in ("machines", "groups", "disks", "templates")])


def three(order: Order, **more: Any) -> Order:
    return order.model_copy(update={"workers": 3, **more})


@pytest.fixture
def bodiless(here: GcpEmulator) -> GcpEmulator:
    """Machines without processes: the life of machines, not of work."""
    here.physics(processes=False)
    return here


def test_one_machine_a_worker_each_with_its_own_metadata(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    order = three(order, deadline=bodiless.state()["now"] + 1800)
    lease = backend.provision(order)
    until(lambda: len(machines(bodiless, order)) == 3, what="three machines")
    names = sorted(m["name"] for m in machines(bodiless, order))
    assert names == [f"{order.lease_id}-w{n}-0" for n in range(3)]
    assert backend.tend(lease, 3) == 3
    (asked,) = bodiless.log(f"POST .*{order.lease_id}/createInstances")
    assert asked["status"] == 200
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


def test_a_zone_without_room_is_left_for_the_next(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    bodiless.physics(stockouts=[{"zone": "europe-west1-b"}])
    hasty = GcpBackend(**{**settings, "stockout_s": 0.5})
    order = three(order)
    lease = hasty.provision(order)
    until(lambda: hasty.tend(lease, 3) == 3 and len(machines(bodiless, order)) == 3, what="three")
    assert {m["zone"] for m in machines(bodiless, order)} == {"europe-west1-c"}
    until(lambda: hasty.probe(lease) is Liveness.ALIVE, what="ALIVE")
    groups = [g for g in bodiless.state()["groups"] if order.lease_id in g["key"]]
    assert len(groups) == 1  # the empty one went with the stock-out
    hasty.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


def test_no_room_anywhere_ends_with_every_reason(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    bodiless.physics(stockouts=[{"zone": "europe-west1-b"}, {"zone": "europe-west1-c"}])
    hasty = GcpBackend(
        **{
            **settings,
            "stockout_s": 0.2,
            "capacity_s": 3,
            "spot": False,
            "zones": ["europe-west1-b", "europe-west1-c"],
        }
    )
    lease = hasty.provision(order)
    said: list[str] = []

    def over() -> bool:
        try:
            hasty.tend(lease, 1)
        except NoCapacity as error:
            said.append(str(error))
        return bool(said)

    until(over, what="the end of the search")
    assert "europe-west1-b: " in said[0] and "europe-west1-c: " in said[0]
    assert said[0].count("ZONE_RESOURCE_POOL_EXHAUSTED") == 2
    hasty.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


@pytest.mark.parametrize("partial", ["start", "all"])
def test_fewer_machines_than_asked_for(
    bodiless: GcpEmulator,
    settings: dict[str, Any],
    backend: GcpBackend,
    order: Order,
    partial: str,
) -> None:
    """A quota has room for two of three: they begin, or the lease is given up, by policy."""
    bodiless.ask("catalogue", quotas={"europe-west1": {"N2_CPUS": 16}})
    hasty = GcpBackend(
        **{
            **settings,
            "stockout_s": 0.2,
            "capacity_s": 3,
            "spot": False,
            "partial": partial,
            "zones": ["europe-west1-b"],
        }
    )
    order = three(order)
    lease = hasty.provision(order)
    try:
        if partial == "start":
            until(lambda: hasty.tend(lease, 3) == 2, what="two of three")
            assert len(machines(bodiless, order)) == 2
        else:
            with pytest.raises(NoCapacity, match="N2_CPUS") as error:
                until(lambda: hasty.tend(lease, 3) == 2, what="a refusal")
            assert error.value.hint
    finally:
        bodiless.ask("catalogue", quotas={"europe-west1": {"N2_CPUS": 1000}})
    hasty.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


def test_spot_machines_that_are_lost_come_back_and_at_last_on_demand(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    bodiless.physics(notice_s=0.2)
    policy = GcpBackend(**{**settings, "on_demand_after": 2})
    lease = policy.provision(order)
    for generation in range(3):
        name = f"{order.lease_id}-w0-{generation}"

        def there(name: str = name) -> bool:
            policy.tend(lease, 1)
            return name in [
                m["name"] for m in machines(bodiless, order) if m["status"] == "RUNNING"
            ]

        until(there, what=name)
        if generation < 2:
            bodiless.happen("preempt", name)
    lived = {m["name"]: m["spot"] for m in machines(bodiless, order, all_=True)}
    assert [lived[f"{order.lease_id}-w0-{n}"] for n in range(3)] == [True, True, False]
    assert len(machines(bodiless, order)) == 1
    policy.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_that_dies_again_and_again_is_not_replaced_for_ever(
    bodiless: GcpEmulator,
    settings: dict[str, Any],
    backend: GcpBackend,
    order: Order,
    workers: int,
) -> None:
    """The others go on; where there is none, the lease is given up in words."""
    policy = GcpBackend(**{**settings, "replacements": 1})
    order = order.model_copy(update={"workers": workers})
    lease = policy.provision(order)

    def running() -> list[str]:
        return sorted(m["name"] for m in machines(bodiless, order) if m["status"] == "RUNNING")

    for generation in range(2):
        name = f"{order.lease_id}-w0-{generation}"
        until(lambda: policy.tend(lease, workers) == workers and name in running(), 60, name)  # noqa: B023
        bodiless.happen("crash", name)
    if workers == 2:
        until(lambda: policy.tend(lease, 2) == 1, 60, "one of two")
        assert running() == [f"{order.lease_id}-w1-0"]
    else:
        with pytest.raises(NoCapacity, match=r"1 of 1 machines \(w0\) were lost"):
            until(lambda: policy.tend(lease, 1) == 0, 60, "a refusal")
    assert len(machines(bodiless, order, all_=True)) == workers + 1
    policy.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 20, "an empty project")


def test_a_group_that_repairs_makes_a_lost_machine_again_by_itself(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    """Under its name, with nobody asking; the driver counts it and makes no second one."""
    repairing = GcpBackend(**{**settings, "repair": True})
    lease = repairing.provision(order)
    name = f"{order.lease_id}-w0-0"

    def running() -> list[str]:
        return [m["name"] for m in machines(bodiless, order) if m["status"] == "RUNNING"]

    until(lambda: running() == [name], 60, name)
    bodiless.happen("crash", name)
    until(lambda: len(machines(bodiless, order, all_=True)) == 2, 60, "another of that name")
    until(lambda: running() == [name], 60, name)
    assert repairing.tend(lease, 1) == 1
    assert {m["name"] for m in machines(bodiless, order, all_=True)} == {name}
    assert len(machines(bodiless, order, all_=True)) == 2
    repairing.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_one_group_over_the_zones_of_a_region(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    bodiless.physics(stockouts=[{"zone": "europe-west1-b"}])
    regional = GcpBackend(**{**settings, "regional": True})
    order = three(order)
    lease = regional.provision(order)
    until(lambda: len(machines(bodiless, order)) == 3, what="three machines")
    assert "europe-west1-b" not in {m["zone"] for m in machines(bodiless, order)}
    assert regional.tend(lease, 3) == 3
    regional.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


def test_lost_answers_and_busy_servers_make_no_second_machine(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    bodiless.fault("instanceTemplates", method="POST", lose=True, after=True, times=1)
    bodiless.fault("instanceGroupManagers\\?", method="POST", status=503, times=1)
    bodiless.fault("createInstances", method="POST", lose=True, after=True, times=2)
    bodiless.fault("listManagedInstances", status=403, reason="rateLimitExceeded", times=2)
    order = three(order)
    lease = backend.provision(order)
    until(lambda: len(machines(bodiless, order)) == 3, what="three machines")
    backend.tend(lease, 3)
    assert len(machines(bodiless, order, all_=True)) == 3
    bodiless.fault("instanceGroupManagers", method="DELETE", lose=True, after=True, times=1)
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


def test_a_false_done_and_a_late_listing_do_not_end_the_teardown(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    """What ``release_confirmed`` relies on: the listing says the truth, and asking again helps."""
    from drillyard.leases.release import release_confirmed

    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    bodiless.physics(false_done=[{"kind": "delete", "match": order.lease_id, "times": 1}])
    release_confirmed(backend, lease, timeout_s=60)
    assert nothing_left(bodiless, order)


# A machine, or a group, that Google is changing just now: 400 with one of two reasons, or 409.
BUSY = [(400, "resourceNotReady"), (400, "resourceInUseByAnotherResource"), (409, "conflict")]


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_machine_that_deletes_itself_just_now_is_replaced_by_the_next_look(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order, status: int, reason: str
) -> None:
    """ "The resource is not ready" is no reason to end anything."""
    lease = backend.provision(order)
    names = [f"{order.lease_id}-w0-{generation}" for generation in range(2)]

    def running() -> list[str]:
        return [m["name"] for m in machines(bodiless, order) if m["status"] == "RUNNING"]

    until(lambda: running() == names[:1], what=names[0])
    for call in ("deleteInstances", "serialPort"):
        bodiless.fault(call, status=status, reason=reason, times=1)
    bodiless.happen("crash", names[0])
    until(lambda: backend.tend(lease, 1) == 1 and running() == names[1:], what=names[1])
    assert [rule["played"] for rule in bodiless.state()["faults"]] == [1, 1]
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_group_that_is_being_changed_keeps_no_other_alive(
    bodiless: GcpEmulator, settings: dict[str, Any], order: Order, status: int, reason: str
) -> None:
    """The first of two groups cannot be deleted yet: the second goes, and the next ask helps."""
    from drillyard.leases.release import release_confirmed

    where = ["europe-west1-b", "europe-west1-c"]
    backend = GcpBackend(**{**settings, "zones": where})
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    backend._groups.make(Place(where[1]), order.lease_id, order.lease_id)
    bodiless.fault(
        f"zones/{where[0]}/instanceGroupManagers/{order.lease_id}",
        method="DELETE",
        status=status,
        reason=reason,
        times=2,
    )
    backend.teardown(lease)
    until(
        lambda: (
            [
                where[0] in g["key"]
                for g in bodiless.state()["groups"]
                if order.lease_id in g["key"]
            ]
            == [True]
        ),
        what="the end of the second",
    )
    release_confirmed(backend, lease, timeout_s=60)
    assert nothing_left(bodiless, order)


def test_the_users_own_template_stays(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    with pytest.raises(UserError, match="no instance template 'mine'"):
        GcpBackend(**{**settings, "template": "mine"}).provision(order)
    other = order.model_copy(update={"lease_id": "dy-00000000aa"})
    like = GcpBackend(**settings)
    like._prepare(other, candidates(like.config)[0], "mine")
    own = GcpBackend(**{**settings, "template": "mine", "machine_types": ["n2-standard-2"]})
    lease = own.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    assert machines(bodiless, order)[0]["machine_type"] == "n2-standard-2"
    own.teardown(lease)
    until(lambda: nothing_left(bodiless, order), what="an empty project")
    assert "mine" in str(bodiless.state()["templates"])
    like._groups.delete_template("mine")


def test_protection_is_a_label_that_the_listing_tells(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    backend.protect(lease, 2_000_000_000.0)
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]
    assert found.provider["protected_until"] == 2_000_000_000.0
    assert found.order == order
    backend.protect(lease, None)
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]
    assert "protected_until" not in found.provider


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_machine_that_is_listed_no_more_gets_no_successor_of_its_name(
    bodiless: GcpEmulator,
    settings: dict[str, Any],
    backend: GcpBackend,
    order: Order,
    restarted: bool,
) -> None:
    """G5: no page says whether its row stays. A new driver knows earlier machines by record."""
    bodiless.physics(notice_s=0.2, lost_stay_listed=False)
    lease = backend.provision(order)
    first, second = f"{order.lease_id}-w0-0", f"{order.lease_id}-w0-1"

    def running(name: str) -> bool:
        return name in [m["name"] for m in machines(bodiless, order) if m["status"] == "RUNNING"]

    until(lambda: backend.tend(lease, 1) == 1 and running(first), 60, first)
    backend.tend(lease, 1)
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    started = records.Started(machine=first, number="1", group="zones/z/g", written_at=1.0)
    mailbox.write(f"leases/{order.lease_id}/machines/{first}.json", started)
    bodiless.happen("preempt", first)
    until(lambda: machines(bodiless, order) == [], 60, "a lost machine")
    driver = GcpBackend(**settings) if restarted else backend
    until(lambda: driver.tend(lease, 1) == 1 and machines(bodiless, order) != [], 60, second)
    assert [m["name"] for m in machines(bodiless, order)] == [second]
    driver.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_a_machine_without_a_status_is_believed_to_be_lost_after_the_listings_lag(
    settings: dict[str, Any], here: GcpEmulator, order: Order
) -> None:
    """G3: a machine whose status comes a little later was deleted at once."""
    clock = FakeClock(time.time())
    slow = GcpBackend(clock, **{**settings, "listing_lag_s": 15.0})
    reconciler = slow._reconciler(order)
    row = Managed("x-w0-0", Machine(0), Stage.LOST, "zones/z/instances/x-w0-0", sure=False)
    view = {Group(Place("z"), 0): [row]}
    assert list(reconciler._lost(view).values()) == [[]]
    clock.advance(14.0)
    assert list(reconciler._lost(view).values()) == [[]]
    clock.advance(2.0)
    assert list(reconciler._lost(view).values()) == [[row]]
    sure = {Group(Place("z"), 1): [replace(row, sure=True)]}
    assert list(reconciler._lost(sure).values()) == [[replace(row, sure=True)]]


@pytest.mark.parametrize(("status", "reason"), [(400, "resourceNotReady"), (409, "conflict")])
def test_a_delete_that_is_refused_for_now_ends_no_waiting(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order, status: int, reason: str
) -> None:
    """M3: the machine deletes itself while the driver removes it; the next look tries again."""
    lease = backend.provision(order)
    first = f"{order.lease_id}-w0-0"

    def up() -> bool:
        return "RUNNING" in [m["status"] for m in machines(bodiless, order)]

    until(lambda: backend.tend(lease, 1) == 1 and up(), 60, first)
    bodiless.fault("deleteInstances", status=status, reason=reason, times=1)
    bodiless.happen("crash", first)

    def replaced() -> bool:
        backend.tend(lease, 1)
        return f"{order.lease_id}-w0-1" in [m["name"] for m in machines(bodiless, order)]

    until(replaced, 60, "its successor")
    until(
        lambda: backend.tend(lease, 1) == 1 and first not in str(machines(bodiless, order)),
        60,
        "the end of the crashed one",
    )
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_a_machine_that_replaces_a_lost_one_has_the_same_deadline(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    """M4: each machine had the whole time for itself."""
    order = order.model_copy(update={"deadline": bodiless.state()["now"] + 3600.0})
    lease = backend.provision(order)
    template = backend._groups.template(order.lease_id)
    ends = datetime.fromisoformat(template.properties.scheduling.termination_time).timestamp()
    assert order.deadline is not None and abs(ends - order.deadline) <= 2.0
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_disks_of_the_users_template_go_with_their_machines(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    """G-D7: Google keeps a disk unless it is told otherwise."""
    disk = {"boot": True, "initializeParams": {"diskSizeGb": "20"}}
    bodiless.ask("template", name="keeping", properties={"disks": [disk]})
    own = GcpBackend(**{**settings, "template": "keeping"})
    lease = own.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    own.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project, without disks")
    attached = {"boot": True, "source": "zones/europe-west1-b/disks/data"}
    bodiless.ask("template", name="attaching", properties={"disks": [attached]})
    with pytest.raises(UserError, match="attaches the existing disk"):
        GcpBackend(**{**settings, "template": "attaching"}).provision(order)


def test_a_template_that_an_earlier_experiment_left_is_made_anew(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    """G-D10: its machines would run the old code until the old deadline."""
    now = bodiless.state()["now"]
    old = order.model_copy(update={"deadline": now + 60.0})
    backend._prepare(old, candidates(backend.config)[0], order.lease_id)
    new = order.model_copy(update={"deadline": now + 3600.0})
    lease = backend.provision(new)
    items = backend._groups.template(order.lease_id).properties.metadata.items
    assert {i.key: i.value for i in items}["drillyard-order"] == new.model_dump_json()
    backend._prepare(old, candidates(backend.config)[0], order.lease_id)  # in use: it stays
    items = backend._groups.template(order.lease_id).properties.metadata.items
    assert {i.key: i.value for i in items}["drillyard-order"] == new.model_dump_json()
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_a_machine_that_left_its_group_is_ended_too(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    """G-D8: it was listed, and no teardown could end it."""
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    bodiless.happen("abandon", f"{order.lease_id}-w0-0")
    until(lambda: not machines(bodiless, order)[0]["group"], 60, "an abandoned machine")

    def ended() -> bool:
        backend.teardown(lease)
        return nothing_left(bodiless, order)

    until(ended, 60, "an empty project")


def test_a_lease_of_another_group_prefix_is_ended(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    """G-D9: after the setting was changed the reaper showed it each time and deleted nothing."""
    other = GcpBackend(**{**settings, "group_prefix": "old"})
    other.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]

    def ended() -> bool:
        backend.teardown(found)
        return nothing_left(bodiless, order)

    until(ended, 60, "an empty project")


def test_a_regional_group_is_deleted_once(
    bodiless: GcpEmulator, settings: dict[str, Any], backend: GcpBackend, order: Order
) -> None:
    """G-D22: the place of the settings and that of the listing were two."""
    regional = GcpBackend(**{**settings, "regional": True})
    lease = regional.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    regional.teardown(lease)
    assert len(bodiless.log(f"DELETE .*instanceGroupManagers/{order.lease_id}")) == 1
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_a_zone_that_cannot_be_reached_hides_nothing(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order
) -> None:
    """M13: an answer without it looked like a project without machines."""
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    bodiless.physics(unreachable=["zones/europe-west1-b"])
    with pytest.raises(ControlPlaneError, match="did not list everything: UNREACHABLE"):
        list(backend.leases())
    bodiless.physics(unreachable=[])
    assert order.lease_id in [found.lease_id for found in backend.leases()]
    backend.teardown(lease)
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def role(name: str) -> list[str]:
    """The permissions of a role file that the guide tells users to grant."""
    path = Path(__file__).parents[2] / "deployments/gcp" / name
    return list(yaml.safe_load(path.read_text())["includedPermissions"])


@pytest.mark.parametrize("lacking", ["", "compute.instanceGroups.delete"])
def test_the_roles_that_ship_are_enough_to_rent_and_to_end(
    bodiless: GcpEmulator, backend: GcpBackend, order: Order, lacking: str
) -> None:
    """G-D5: with them groups could be made, and not be deleted."""
    user = f"user@{bodiless.project}.iam.gserviceaccount.com"
    has = {
        user: [*role("role.yaml"), *rights.BUCKET],
        bodiless.service_account: role("machine-role.yaml"),
    }
    bodiless.ask("project", granted={k: [p for p in v if p != lacking] for k, v in has.items()})
    try:
        if lacking:
            bodiless.ask("project", granted={})
            lease = backend.provision(order)
            bodiless.ask("project", granted={user: [p for p in has[user] if p != lacking]})
            with pytest.raises(DrillyardError, match=lacking):
                backend.teardown(lease)
            bodiless.ask("project", granted=has)
        else:
            lease = backend.provision(order)
            assert backend.tend(lease, 1) == 1
            list(backend.leases())
            backend.protect(lease, None)
        backend.teardown(lease)
        until(lambda: nothing_left(bodiless, order), 60, "an empty project")
        alone = order.model_copy(update={"lease_id": f"dy-{uuid.uuid4().hex[:10]}"})
        backend.provision(alone)
        group = InstanceGroupSelf(
            bodiless.project, f"zones/europe-west1-b/{alone.lease_id}", "europe-west1-b", 5.0
        )
        group.__dict__["session"] = machine_session(bodiless)
        assert group.members() is not None
        assert group.delete_machine(f"{alone.lease_id}-w0-0")
        assert group.delete()
        until(lambda: alone.lease_id not in str(bodiless.state()["groups"]), 60, "no group")
    finally:
        bodiless.ask("project", granted={})
    backend._groups.delete_template(alone.lease_id)


def machine_session(cloud: GcpEmulator) -> AuthorizedSession:
    """Requests in the name of the machines' own account."""
    key = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    credentials = service_account.Credentials.from_service_account_info(
        {**key, "client_email": cloud.service_account},
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    return AuthorizedSession(credentials)
