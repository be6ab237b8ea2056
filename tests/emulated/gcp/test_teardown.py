"""A teardown leaves nothing that costs money."""

import pytest

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, UserError
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.errors import InUse
from drillyard_backends.gcp.zones import Place, candidates
from tests.emulated.gcp.books import BUSY, gone, machines, nothing_left
from tests.helpers.patience import until


def test_a_machine_that_may_not_be_deleted_is_named_at_once(bodiless, backend, order, monkeypatch):
    """The group's own row said why, and the command waited eleven minutes in silence."""
    from drillyard.leases.reasons import Reasons
    from drillyard.leases.release import Release
    from drillyard.system.clock import SYSTEM
    from drillyard.system.loops import run_steps

    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    assert backend.reasons(lease) == []
    bodiless.physics(undeletable_s=4)
    monkeypatch.setattr("drillyard_backends.gcp.group_ender.WAIT_S", 1.0)
    said: list[str] = []
    release = Release(backend, lease, timeout_s=60, reasons=Reasons(said.append))
    release.step(SYSTEM.monotonic())
    ((line),) = said
    assert "delete machine" in line and "PERMISSIONS_ERROR" in line and "europe-west1-b" in line
    run_steps(release.step, SYSTEM)
    assert nothing_left(bodiless, order) and said == [line]


def test_a_listed_lease_has_the_age_that_google_writes_with_an_offset(bodiless, backend, order):
    """A time of seven hours before or after would make a reaper wait, or end a fresh lease."""
    before = bodiless.state()["now"]
    lease = backend.provision(order)
    (listed,) = [one for one in backend.leases() if one.lease_id == order.lease_id]
    assert before - 1 <= listed.created_at <= bodiless.state()["now"] + 1
    template = backend._groups.template(order.lease_id)
    assert template.creation_timestamp.endswith("-07:00")
    gone(bodiless, backend, lease)


def test_a_group_that_refuses_to_go_keeps_no_machine(bodiless, backend, order):
    """G44: whether a group can be deleted while its machines are made is not documented."""
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    bodiless.fault(
        f"instanceGroupManagers/{order.lease_id}",
        method="DELETE",
        status=400,
        reason="resourceInUseByAnotherResource",
    )
    backend.teardown(lease)
    until(lambda: not machines(bodiless, order), what="the end of the machine")
    assert order.lease_id in str(bodiless.state()["groups"])
    bodiless.clear_faults()
    gone(bodiless, backend, lease)


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_group_that_is_being_changed_keeps_no_other_alive(
    bodiless, settings, order, status, reason
):
    """The first of two groups cannot be deleted yet: the second goes, and the next ask helps."""
    from drillyard.leases.release import release_confirmed

    where = ["europe-west1-b", "europe-west1-c"]
    backend = GcpBackend(**settings, zones=where)
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


def test_the_users_own_template_stays(bodiless, settings, backend, order):
    with pytest.raises(UserError, match="no instance template 'mine'"):
        GcpBackend(**settings, template="mine").provision(order)
    other = order.model_copy(update={"lease_id": "dy-00000000aa"})
    like = GcpBackend(**settings)
    like._prepare(other, candidates(like.config)[0], "mine")
    own = GcpBackend(**settings, template="mine", machine_types=["n2-standard-2"])
    lease = own.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    assert machines(bodiless, order)[0]["machine_type"] == "n2-standard-2"
    gone(bodiless, own, lease)
    assert "mine" in str(bodiless.state()["templates"])
    like._groups.delete_template("mine")


def test_protection_is_a_label_that_the_listing_tells(bodiless, backend, order):
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), what="a machine")
    backend.protect(lease, 2_000_000_000.0)
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]
    assert found.provider["protected_until"] == 2_000_000_000.0
    assert found.order == order
    backend.protect(lease, None)
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]
    assert "protected_until" not in found.provider


def test_disks_of_the_users_template_go_with_their_machines(bodiless, settings, backend, order):
    """G-D7: Google keeps a disk unless it is told otherwise."""
    disk = {"boot": True, "initializeParams": {"diskSizeGb": "20"}}
    bodiless.ask("template", name="keeping", properties={"disks": [disk]})
    own = GcpBackend(**settings, template="keeping")
    lease = own.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    gone(bodiless, own, lease)
    attached = {"boot": True, "source": "zones/europe-west1-b/disks/data"}
    bodiless.ask("template", name="attaching", properties={"disks": [attached]})
    with pytest.raises(UserError, match="attaches the existing disk"):
        GcpBackend(**settings, template="attaching").provision(order)


def test_a_template_that_an_earlier_experiment_left_is_made_anew(bodiless, backend, order):
    """G-D10: its machines would run the old code until the old deadline."""
    now = bodiless.state()["now"]
    old = order.model_copy(update={"deadline": now + 60.0})
    backend._prepare(old, candidates(backend.config)[0], order.lease_id)
    new = order.model_copy(update={"deadline": now + 3600.0})
    lease = backend.provision(new)
    items = backend._groups.template(order.lease_id).properties.metadata.items
    assert {i.key: i.value for i in items}["drillyard-order"] == new.model_dump_json()
    until(lambda: machines(bodiless, order), what="a machine")
    other = old.model_copy(update={"experiment": "another"})
    with pytest.raises(InUse, match="machines of an earlier experiment"):
        backend._prepare(other, candidates(backend.config)[0], order.lease_id)
    items = backend._groups.template(order.lease_id).properties.metadata.items
    assert {i.key: i.value for i in items}["drillyard-order"] == new.model_dump_json()
    gone(bodiless, backend, lease)


def test_a_machine_that_left_its_group_is_ended_too(bodiless, backend, order):
    """G-D8: it was listed, and no teardown could end it."""
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    bodiless.happen("abandon", f"{order.lease_id}-w0-0")
    until(lambda: not machines(bodiless, order)[0]["group"], 60, "an abandoned machine")

    def ended() -> bool:
        backend.teardown(lease)
        return nothing_left(bodiless, order)

    until(ended, 60, "an empty project")


def test_a_lease_of_another_group_prefix_is_ended(bodiless, settings, backend, order):
    """G-D9: after the setting was changed the reaper showed it each time and deleted nothing."""
    other = GcpBackend(**settings, group_prefix="old")
    other.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    (found,) = [x for x in backend.leases() if x.lease_id == order.lease_id]

    def ended() -> bool:
        backend.teardown(found)
        return nothing_left(bodiless, order)

    until(ended, 60, "an empty project")


def test_a_regional_group_is_deleted_once(bodiless, settings, backend, order):
    """G-D22: the place of the settings and that of the listing were two."""
    regional = GcpBackend(**settings, regional=True)
    lease = regional.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    regional.teardown(lease)
    assert len(bodiless.log(f"DELETE .*instanceGroupManagers/{order.lease_id}")) == 1
    until(lambda: nothing_left(bodiless, order), 60, "an empty project")


def test_a_zone_that_cannot_be_reached_hides_nothing(bodiless, backend, order):
    """M13: an answer without it looked like a project without machines."""
    lease = backend.provision(order)
    until(lambda: machines(bodiless, order), 60, "a machine")
    bodiless.physics(unreachable=["zones/europe-west1-b"])
    with pytest.raises(ControlPlaneError, match="did not list everything: UNREACHABLE"):
        list(backend.leases())
    bodiless.physics(unreachable=[])
    assert order.lease_id in [found.lease_id for found in backend.leases()]
    gone(bodiless, backend, lease)


def test_other_settings_delete_the_templates_of_all_variants(bodiless, settings, order):
    """`reap` runs with the settings of its own folder: these templates stayed for ever."""
    types = ["n2-highcpu-8", "n2-highcpu-16", "n2-standard-8"]
    wide = GcpBackend(**settings, machine_types=types)
    made = {c.variant: c for c in candidates(wide.config)}
    for variant, candidate in made.items():
        wide._prepare(order, candidate, wide._name(order, variant))
    narrow = GcpBackend(**settings)
    assert len(made) > len({c.variant for c in candidates(narrow.config)})
    (lease,) = [found for found in narrow.leases() if found.lease_id == order.lease_id]
    narrow.teardown(lease)
    assert nothing_left(bodiless, order)


def test_an_empty_group_of_an_earlier_experiment_keeps_no_old_template(bodiless, backend, order):
    """With the role that ships, the last machine leaves an empty group that uses its template."""
    now = bodiless.state()["now"]
    candidate = candidates(backend.config)[0]
    old = order.model_copy(update={"deadline": now + 600.0})
    backend._prepare(old, candidate, order.lease_id)
    backend._groups.make(candidate.place, order.lease_id, order.lease_id)
    new = order.model_copy(update={"deadline": now + 3600.0})
    lease = backend.provision(new)
    until(lambda: machines(bodiless, order), what="a machine")
    kept = backend._groups.template(order.lease_id)
    items = {item.key: item.value for item in kept.properties.metadata.items}
    assert Order.from_bytes(items["drillyard-order"].encode()) == new
    gone(bodiless, backend, lease)


def test_an_earlier_limit_of_the_same_lease_keeps_its_template_in_use(bodiless, backend, order):
    """A driver that goes on may have less time left: lost machines were no longer replaced."""
    now = bodiless.state()["now"]
    rented = order.model_copy(update={"deadline": now + 3600.0})
    lease = backend.provision(rented)
    until(lambda: machines(bodiless, order), what="a machine")
    shorter = rented.model_copy(update={"deadline": now + 3000.0, "deadline_of": "max_cost"})
    backend._prepare(shorter, candidates(backend.config)[0], order.lease_id)
    items = backend._groups.template(order.lease_id).properties.metadata.items
    assert {i.key: i.value for i in items}["drillyard-order"] == rented.model_dump_json()
    gone(bodiless, backend, lease)
