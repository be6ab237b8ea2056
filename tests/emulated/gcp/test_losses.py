"""Machines that are lost, or that Google is changing."""

import time
from dataclasses import replace

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import records
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.gcp.zones import Place
from tests.emulated.gcp.books import BUSY, gone, machines, up
from tests.helpers.patience import until


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_machine_that_deletes_itself_just_now_is_replaced_by_the_next_look(
    bodiless, backend, order, status, reason
):
    """ "The resource is not ready" is no reason to end anything."""
    lease = backend.provision(order)
    names = [f"{order.lease_id}-w0-{generation}" for generation in range(2)]
    until(lambda: up(bodiless, order) == names[:1], what=names[0])
    for call in ("deleteInstances", "serialPort"):
        bodiless.fault(call, status=status, reason=reason, times=1)
    bodiless.happen("crash", names[0])
    until(lambda: backend.tend(lease, 1) == 1 and up(bodiless, order) == names[1:], what=names[1])
    assert [rule["played"] for rule in bodiless.state()["faults"]] == [1, 1]
    gone(bodiless, backend, lease)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_machine_that_is_listed_no_more_gets_no_successor_of_its_name(
    bodiless, settings, backend, order, restarted
):
    """G5: no page says whether its row stays. A new driver knows earlier machines by record."""
    bodiless.physics(notice_s=0.2, lost_stay_listed=False)
    lease = backend.provision(order)
    first, second = f"{order.lease_id}-w0-0", f"{order.lease_id}-w0-1"
    until(lambda: backend.tend(lease, 1) == 1 and first in up(bodiless, order), 60, first)
    backend.tend(lease, 1)
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    started = records.Started(machine=first, number="1", group="zones/z/g", written_at=1.0)
    mailbox.write(f"leases/{order.lease_id}/machines/{first}.json", started)
    bodiless.happen("preempt", first)
    until(lambda: machines(bodiless, order) == [], 60, "a lost machine")
    driver = GcpBackend(**settings) if restarted else backend
    until(lambda: driver.tend(lease, 1) == 1 and machines(bodiless, order) != [], 60, second)
    assert [m["name"] for m in machines(bodiless, order)] == [second]
    gone(bodiless, driver, lease)


def test_a_machine_without_a_status_is_believed_to_be_lost_after_the_listings_lag(
    settings, here, order
):
    """G3: a machine whose status comes a little later was deleted at once."""
    clock = FakeClock(time.time())
    slow = GcpBackend(clock, **{**settings, "listing_lag_s": 15.0})
    reconciler = slow._reconciler(order)
    row = Managed("x-w0-0", Machine(0), Stage.LOST, "zones/z/instances/x-w0-0", sure=False)
    view = {Group(Place("z"), 0): [row]}
    assert list(reconciler._lost(view, set()).values()) == [[]]
    clock.advance(14.0)
    assert list(reconciler._lost(view, set()).values()) == [[]]
    clock.advance(2.0)
    assert list(reconciler._lost(view, set()).values()) == [[row]]
    sure = {Group(Place("z"), 1): [replace(row, sure=True)]}
    assert list(reconciler._lost(sure, set()).values()) == [[replace(row, sure=True)]]
