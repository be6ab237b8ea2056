"""Machines are made, replaced, and counted."""

from datetime import datetime

import pytest

from drillyard.backend import Liveness
from drillyard.errors import NoCapacity
from drillyard_backends.gcp import backend as module
from drillyard_backends.gcp.backend import GcpBackend
from tests.emulated.gcp.books import gone, machines, three, up
from tests.helpers.patience import until

QUOTA = "Quota 'INSTANCE_GROUP_MANAGERS' exceeded. Limit: 0.0 in region europe-west1."
POLICY = "Constraint constraints/compute.vmExternalIpAccess violated for project 1."


@pytest.mark.parametrize("what", [r"instanceGroupManagers\?", "createInstances"])
@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [(403, "quotaExceeded", QUOTA), (412, "conditionNotMet", POLICY)],
)
def test_a_zone_that_refuses_a_group_or_its_machines_is_left_for_the_next(
    bodiless, settings, backend, order, what, status, reason, message
):
    """Three leases asked the first zone once each, and none asked the second."""
    where = f"zones/europe-west1-b/.*{what}"
    bodiless.fault(where, method="POST", status=status, reason=reason, message=message)
    zones = ["europe-west1-b", "europe-west1-c"]
    patient = GcpBackend(**settings, spot=False, zones=zones)
    lease = patient.provision(order)
    assert patient.probe(lease) is Liveness.PENDING  # a lease that is gone is written off
    (why,) = patient.reasons(lease)
    assert message in why and "in europe-west1-b" in why
    assert patient.tend(lease, 1) == 1
    until(lambda: patient.probe(lease) is Liveness.ALIVE, what="ALIVE")
    assert {m["zone"] for m in machines(bodiless, order)} == {"europe-west1-c"}
    until(lambda: patient.tend(lease, 1) == 1 and not patient.reasons(lease), what="silence")
    gone(bodiless, patient, lease)


def test_a_search_that_only_meets_refusals_ends_with_the_quota(bodiless, settings, backend, order):
    bodiless.fault(
        r"instanceGroupManagers\?",
        method="POST",
        status=403,
        reason="quotaExceeded",
        message=QUOTA,
    )
    hasty = GcpBackend(**settings, spot=False, capacity_s=2, zones=["europe-west1-b"])
    lease = hasty.provision(order)
    with pytest.raises(NoCapacity, match="INSTANCE_GROUP_MANAGERS") as raised:
        until(lambda: hasty.tend(lease, 1) == 0, what="the end of the search")
    assert "metric=INSTANCE_GROUP_MANAGERS" in str(raised.value.hint)
    bodiless.clear_faults()
    gone(bodiless, hasty, lease)


def test_the_cheapest_is_taken_and_a_preempted_machine_goes_elsewhere_when_it_is_full(
    bodiless, settings, backend, order
):
    """Of two regions, by price and not as listed; then on to the next one."""
    cheap = GcpBackend(
        **settings,
        stockout_s=0.2,
        machine_types=["g2-standard-8"],
        zones=["europe-west1-b", "us-central1-a"],
        cheapest_first=True,
        on_demand_after=None,
    )
    order = order.model_copy(update={"gpus": 1})
    lease = cheap.provision(order)

    def zones() -> list[str]:
        cheap.tend(lease, 1)
        return [m["zone"] for m in machines(bodiless, order) if m["status"] == "RUNNING"]

    until(lambda: zones() == ["us-central1-a"], what="a machine where it costs least")
    (name,) = [m["name"] for m in machines(bodiless, order)]
    bodiless.physics(stockouts=[{"zone": "us-central1-a"}], notice_s=0)
    cheap.simulate_preemption(lease, name)
    until(lambda: zones() == ["europe-west1-b"], what="the next machine elsewhere")
    gone(bodiless, cheap, lease)


def test_no_room_anywhere_ends_with_every_reason(bodiless, settings, backend, order):
    bodiless.physics(stockouts=[{"zone": "europe-west1-b"}, {"zone": "europe-west1-c"}])
    hasty = GcpBackend(
        **settings,
        stockout_s=0.2,
        capacity_s=3,
        spot=False,
        zones=["europe-west1-b", "europe-west1-c"],
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
    gone(bodiless, hasty, lease)


@pytest.mark.parametrize("partial", ["start", "all"])
def test_fewer_machines_than_asked_for(bodiless, settings, backend, order, partial):
    """A quota has room for two of three: they begin, or the lease is given up, by policy."""
    bodiless.ask("catalogue", quotas={"europe-west1": {"N2_CPUS": 16}})
    hasty = GcpBackend(
        **settings,
        stockout_s=0.2,
        capacity_s=3,
        spot=False,
        partial=partial,
        zones=["europe-west1-b"],
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
    gone(bodiless, hasty, lease)


def test_spot_machines_that_are_lost_come_back_and_at_last_on_demand(
    bodiless, settings, backend, order
):
    bodiless.physics(notice_s=0.2)
    policy = GcpBackend(**settings, on_demand_after=2)
    lease = policy.provision(order)
    for generation in range(3):
        name = f"{order.lease_id}-w0-{generation}"
        until(lambda: policy.tend(lease, 1) >= 0 and name in up(bodiless, order), what=name)  # noqa: B023
        if generation < 2:
            bodiless.happen("preempt", name)
    lived = {m["name"]: m["spot"] for m in machines(bodiless, order, all_=True)}
    assert [lived[f"{order.lease_id}-w0-{n}"] for n in range(3)] == [True, True, False]
    assert len(machines(bodiless, order)) == 1
    gone(bodiless, policy, lease)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_that_dies_again_and_again_is_not_replaced_for_ever(
    bodiless, settings, backend, order, workers
):
    """The others go on; where there is none, the lease is given up in words."""
    policy = GcpBackend(**settings, replacements=1)
    order = order.model_copy(update={"workers": workers})
    lease = policy.provision(order)
    for generation in range(2):
        name = f"{order.lease_id}-w0-{generation}"
        until(
            lambda: policy.tend(lease, workers) == workers and name in up(bodiless, order),  # noqa: B023
            60,
            name,
        )
        bodiless.happen("crash", name)
    if workers == 2:
        until(lambda: policy.tend(lease, 2) == 1, 60, "one of two")
        assert up(bodiless, order) == [f"{order.lease_id}-w1-0"]
    else:
        with pytest.raises(NoCapacity, match=r"1 of 1 machines \(w0\) were lost"):
            until(lambda: policy.tend(lease, 1) == 0, 60, "a refusal")
    assert len(machines(bodiless, order, all_=True)) == workers + 1
    gone(bodiless, policy, lease)


def test_a_group_that_repairs_makes_a_lost_machine_again_by_itself(
    bodiless, settings, backend, order
):
    """Under its name, with nobody asking; the driver counts it and makes no second one."""
    repairing = GcpBackend(**settings, repair=True)
    lease = repairing.provision(order)
    name = f"{order.lease_id}-w0-0"
    until(lambda: up(bodiless, order) == [name], 60, name)
    bodiless.happen("crash", name)
    until(lambda: len(machines(bodiless, order, all_=True)) == 2, 60, "another of that name")
    until(lambda: up(bodiless, order) == [name], 60, name)
    assert repairing.tend(lease, 1) == 1
    assert {m["name"] for m in machines(bodiless, order, all_=True)} == {name}
    assert len(machines(bodiless, order, all_=True)) == 2
    gone(bodiless, repairing, lease)


def test_one_group_over_the_zones_of_a_region(bodiless, settings, backend, order):
    bodiless.physics(stockouts=[{"zone": "europe-west1-b"}])
    regional = GcpBackend(**settings, regional=True)
    order = three(order)
    lease = regional.provision(order)
    until(lambda: len(machines(bodiless, order)) == 3, what="three machines")
    assert "europe-west1-b" not in {m["zone"] for m in machines(bodiless, order)}
    assert regional.tend(lease, 3) == 3
    gone(bodiless, regional, lease)


def test_lost_answers_and_busy_servers_make_no_second_machine(bodiless, backend, order):
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
    gone(bodiless, backend, lease)


def test_a_machine_that_replaces_a_lost_one_has_the_same_deadline(bodiless, backend, order):
    """M4: each machine had the whole time for itself."""
    order = order.model_copy(update={"deadline": bodiless.state()["now"] + 3600.0})
    lease = backend.provision(order)
    template = backend._groups.template(order.lease_id)
    ends = datetime.fromisoformat(template.properties.scheduling.termination_time).timestamp()
    assert order.deadline is not None and abs(ends - order.deadline) <= 2.0
    gone(bodiless, backend, lease)


def test_machines_that_are_all_there_are_listed_once_in_each_look(
    bodiless, backend, order, monkeypatch
):
    """A look asks whether they live, replaces what is missing, and asks for reasons."""
    monkeypatch.setattr(module, "FRESH_S", 600.0)
    lease = backend.provision(order)
    for stage in ("coming", "up"):
        until(lambda: backend.tend(lease, 1) == 1, what=stage)
        backend._viewer(order)._look_again()
        before = len(bodiless.log("listManagedInstances"))
        backend.probe(lease)
        assert backend.tend(lease, 1) == 1 and backend.reasons(lease) == []
        assert len(bodiless.log("listManagedInstances")) == before + 1
        until(lambda: machines(bodiless, order)[0]["status"] == "RUNNING", what="a machine")
    gone(bodiless, backend, lease)
