"""What a lease costs, and whose intent is kept, when it ended before anybody looked."""

import pytest

from drillyard.backend import Liveness
from drillyard.leases.ended_alone import LATE_S
from drillyard.leases.ledger import Ledger, local_intents
from drillyard.leases.reaper import reap
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.weekend import HOUR_S, Cluster, command, died, finished, lived_s, told


@pytest.mark.parametrize("how", ["the next command", "reap", "cancel"])
def test_it_costs_at_most_what_it_costs_up_to_its_limit(how, mailbox, clock):
    """Machines died on Friday; somebody looks on Monday, and the work goes on."""
    driver = command(mailbox, clock)
    lease = driver.provision()
    clock.advance(600.0)
    died(lease)
    clock.advance(56 * HOUR_S)
    if how == "reap":
        reap(["paid"], clock=clock)
    elif how == "cancel":
        command(mailbox, clock).teardown()
    again = command(mailbox, clock).provision()
    assert again.lease_id != lease.lease_id
    assert 600.0 <= lived_s(mailbox) <= 2 * HOUR_S + LATE_S


def test_workers_that_all_said_that_they_leave_show_when_it_ended(mailbox, clock):
    lease = command(mailbox, clock).provision()
    clock.advance(600.0)
    finished(mailbox)
    told(mailbox, lease, "leaving", 3)
    died(lease)
    clock.advance(56 * HOUR_S)
    command(mailbox, clock).provision()
    assert 600.0 <= lived_s(mailbox) <= 600.0 + LATE_S


def test_machines_may_have_started_in_the_place_of_those_that_left_their_work(mailbox, clock):
    """The provider took machines back, and its group started others, whose workers hung."""
    lease = command(mailbox, clock).provision()
    clock.advance(600.0)
    told(mailbox, lease, "leaving", 3)
    clock.advance(HOUR_S)
    died(lease)
    clock.advance(56 * HOUR_S)
    command(mailbox, clock).provision()
    assert lived_s(mailbox) >= 2 * HOUR_S


@pytest.mark.parametrize("nodes", [0, 1])
def test_a_cluster_without_a_node_costs_nothing_after_its_limit(
    nodes, mailbox, clock, monkeypatch
):
    """It is there until it is deleted."""
    monkeypatch.setattr(Cluster, "nodes", nodes)
    command(mailbox, clock, Cluster).provision()
    clock.advance(5 * HOUR_S)
    command(mailbox, clock, Cluster).teardown()
    up_to = 5 * HOUR_S if nodes else 2 * HOUR_S + LATE_S
    assert lived_s(mailbox) == pytest.approx(up_to, abs=60.0)


@pytest.mark.parametrize(("state", "workers"), [("ready", 3), ("leaving", 2)])
def test_a_worker_that_said_nothing_may_have_had_a_machine_up_to_the_limit(
    state, workers, mailbox, clock
):
    """A machine that hangs costs as much as one that works."""
    lease = command(mailbox, clock).provision()
    clock.advance(600.0)
    told(mailbox, lease, state, workers)
    clock.advance(HOUR_S)
    died(lease)
    clock.advance(56 * HOUR_S)
    command(mailbox, clock).provision()
    assert lived_s(mailbox) >= 2 * HOUR_S


def test_what_was_alive_after_its_limit_costs_until_it_was_ended(mailbox, clock):
    """The provider did not end it; the next command does."""
    command(mailbox, clock).provision()
    clock.advance(5 * HOUR_S)
    command(mailbox, clock).teardown()
    assert lived_s(mailbox) == pytest.approx(5 * HOUR_S, abs=60.0)


def test_a_lease_that_is_not_confirmed_as_gone_keeps_its_intent_on_this_machine(mailbox, clock):
    """The store may be deleted before the next command: then only the intent is left."""
    driver = command(mailbox, clock)
    lease = driver.provision()
    died(lease)
    clock.advance(60.0)
    driver = command(mailbox, clock)
    again = driver.provision()
    assert PaidBackend().probe(lease) is Liveness.GONE
    assert {i.order.lease_id for i in local_intents()} == {lease.lease_id, again.lease_id}
    driver.teardown()
    assert [entry.unseen for entry in Ledger(mailbox).entries()] == [False, False]
    assert list(local_intents()) == []
