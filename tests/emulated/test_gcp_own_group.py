"""A machine's view of its own group: an answer that tells nothing is not an empty group."""

from __future__ import annotations

import logging
import threading
import uuid

import pytest

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError
from drillyard.mailbox import Mailbox, open_store
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_backends.gcp.self_delete import GIVE_UP_S, SelfDelete
from tests.helpers.compute_client import ZONE, Compute, a_name, running

BUSY = [(400, "resourceNotReady"), (409, "conflict")]


@pytest.fixture
def compute(at_cloud):
    return Compute(at_cloud)


@pytest.fixture
def pair(compute):
    """A group of two machines: its name, theirs."""
    group = compute.group(compute.template())
    first, second = a_name(), a_name()
    compute.create(group, first, second)
    for name in (first, second):
        running(compute, group, name)
    yield group, first, second
    compute.cloud.clear_faults()
    compute.drop(group)


def own(compute: Compute, group: str, patience_s: float = 30.0) -> InstanceGroupSelf:
    return InstanceGroupSelf(compute.project, f"zones/{ZONE}/{group}", ZONE, patience_s)


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_refused_listing_is_asked_for_again(compute, pair, status, reason):
    """G-D1: it was an empty group, in which each machine is the last one."""
    group, first, second = pair
    compute.cloud.fault("listManagedInstances", status=status, reason=reason, times=2)
    members = own(compute, group).members()
    assert members is not None and {m.name for m in members} == {first, second}


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_listing_that_stays_refused_makes_nobody_the_last(
    compute, pair, tmp_path, status, reason
):
    """The last machine deletes the group with all its machines."""
    group, first, _ = pair
    compute.cloud.fault("listManagedInstances", status=status, reason=reason)
    hasty = own(compute, group, 0.1)
    with pytest.raises(ControlPlaneError, match=str(status)):
        hasty.members()
    url = f"file://{tmp_path}"
    order = Order(lease_id=f"dy-{uuid.uuid4().hex[:10]}", experiment="e", store_url=url)
    leaver = SelfDelete(Mailbox(open_store(url), "e"), order, hasty, first, "1")
    assert not leaver.last()
    assert not leaver._alone()


@pytest.mark.parametrize(("status", "reason"), BUSY)
def test_a_delete_that_is_under_way_is_success_and_is_logged(
    compute, pair, caplog, status, reason
):
    group, first, _ = pair
    compute.cloud.fault(
        "deleteInstances", status=status, reason=reason, message="not now", times=1
    )
    with caplog.at_level(logging.WARNING):
        assert own(compute, group).delete_machine(first)
    assert f"{status}: " in caplog.text and "not now" in caplog.text


def test_a_machine_is_named_as_google_names_it(compute, pair):
    """G7: ``projects/P/zones/Z/instances/N`` is documented nowhere; the emulator refuses it."""
    group, first, second = pair
    assert own(compute, group).delete_machine(first)
    left = compute.cloud.wait(lambda s: [m for m in s["machines"] if m["name"] == first] == [])
    assert second in {m["name"] for m in left["machines"]}


def test_a_machine_that_may_not_end_itself_does_not_ask_for_ever(compute, pair, tmp_path):
    """G-D13: it would idle, and cost, until its own limit; the script then powers it off."""
    group, first, _ = pair
    compute.cloud.fault("deleteInstances", status=403, reason="forbidden")
    url = f"file://{tmp_path}"
    order = Order(lease_id=f"dy-{uuid.uuid4().hex[:10]}", experiment="e", store_url=url)
    clock = FakeClock()
    leaver = SelfDelete(
        Mailbox(open_store(url), "e"), order, own(compute, group, 0.1), first, "1", clock
    )
    began = clock.monotonic()
    assert leaver.delete(False, threading.Event()) is False
    assert GIVE_UP_S <= clock.monotonic() - began < 2 * GIVE_UP_S
    ended = threading.Event()
    ended.set()
    assert leaver.delete(False, ended) is True
