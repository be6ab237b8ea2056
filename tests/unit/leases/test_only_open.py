"""Requests that create something for a lease which another command ends meanwhile."""

from __future__ import annotations

import pytest

from drillyard.backend import Lease
from drillyard.errors import ControlPlaneError, StoreUnavailable, Superseded
from drillyard.leases.ledger import Ledger
from drillyard.leases.setup_wait import SetupWait
from drillyard.mailbox import Mailbox
from tests.helpers.paid_backend import PaidBackend
from tests.unit.leases.test_other_clocks import HOUR_S, Skewed, command, mailbox, taken_over, true
from tests.unit.leases.test_reaping import reaped

__all__ = ["mailbox", "true"]


def superseded_and_over(mailbox: Mailbox, lease: Lease) -> None:
    taken_over(mailbox, 2)
    Ledger(mailbox).gone(lease.lease_id, "torn down")


def superseded_and_being_ended(mailbox: Mailbox, lease: Lease) -> None:
    taken_over(mailbox, 2)
    Ledger(mailbox).ending(lease.lease_id)


def cancelled(mailbox: Mailbox, lease: Lease) -> None:
    Ledger(mailbox).ending(lease.lease_id)


@pytest.mark.parametrize("request_fails", [False, True])
@pytest.mark.parametrize(
    ("meanwhile", "raised"),
    [
        (superseded_and_over, Superseded),
        (superseded_and_being_ended, Superseded),
        (cancelled, StoreUnavailable),
    ],
)
def test_what_is_created_while_the_lease_ends_is_ended(
    meanwhile, raised, request_fails, mailbox, true
):
    """The answer of the request may be lost, so that an error proves nothing."""
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    true.advance(1.0)
    PaidBackend.calls.clear()
    with pytest.raises(raised), driver._leases.only_open(lease):
        meanwhile(mailbox, lease)
        if request_fails:
            raise ControlPlaneError("no answer")
    assert PaidBackend.calls == [("teardown", lease.lease_id)]


def test_a_lease_that_the_next_driver_uses_is_left_alone(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    PaidBackend.calls.clear()
    with pytest.raises(Superseded), driver._leases.only_open(lease):
        taken_over(mailbox, 2)
    assert PaidBackend.calls == []


def test_nothing_is_asked_for_once_the_lease_is_being_ended(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    true.advance(1.0)
    cancelled(mailbox, lease)
    with pytest.raises(StoreUnavailable), driver._leases.only_open(lease):
        pytest.fail("this asks the provider")


class Tended(PaidBackend):
    """A backend that replaces machines, and writes down when."""

    def tend(self, lease: Lease, workers: int) -> int:
        self.calls.append(("tend", lease.lease_id))
        return workers


def test_a_driver_that_was_replaced_during_its_set_up_replaces_no_machine(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    leases = driver._leases
    waiting = SetupWait(mailbox, Tended(), lease, 600.0, only_open=leases.only_open)
    PaidBackend.calls.clear()
    for at in (0.0, 1.9):
        waiting.step(at)
    assert PaidBackend.calls == [], "machines are asked about every two seconds"
    for at in (2.0, 3.9):
        waiting.step(at)
    assert PaidBackend.calls == [("tend", lease.lease_id)]
    taken_over(mailbox, 2)
    with pytest.raises(Superseded):
        waiting.step(4.0)
    assert PaidBackend.calls == [("tend", lease.lease_id)]


@pytest.mark.parametrize("ahead_s", [-HOUR_S, 0.0, HOUR_S])
def test_a_lease_whose_end_was_interrupted_is_adopted(ahead_s, mailbox, true, monkeypatch):
    """The command that was ending it was killed, whatever its clock said; the machines work."""
    lease = command(mailbox, Skewed(true, 0.0)).provision()
    true.advance(1.0)
    Ledger(mailbox, Skewed(true, ahead_s)).ending(lease.lease_id)
    true.advance(1.0)
    monkeypatch.setattr("drillyard.mailbox.driver_lock.living", lambda *_: False)
    second = command(mailbox, Skewed(true, 0.0))
    assert second.provision() == lease
    with second._leases.only_open(lease):
        pass


@pytest.fixture
def announced(mailbox, monkeypatch):
    """For each teardown that a provider is asked for: whether its lease was announced as over."""
    found: list[bool] = []
    teardown = PaidBackend.teardown

    def seen(self: PaidBackend, ended: Lease) -> None:
        found.append(Ledger(mailbox).entry(ended.lease_id).over)
        teardown(self, ended)

    monkeypatch.setattr(PaidBackend, "teardown", seen)
    return found


def test_the_end_of_a_lease_is_announced_before_it_is_asked_for(mailbox, true, announced):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    true.advance(1.0)
    driver._leases.end_all(60.0, lambda: None)
    assert announced[0] and Ledger(mailbox).entry(lease.lease_id).gone is not None


def test_a_reaper_announces_the_end_too(mailbox, true, announced, monkeypatch):
    """A driver on a laptop that sleeps may create something when it wakes."""
    command(mailbox, Skewed(true, 0.0)).provision()
    monkeypatch.setattr("drillyard.mailbox.driver_lock.living", lambda *_: False)
    true.advance(24 * 3600.0)
    assert [o.deleted for o in reaped(true).outcomes] == [True]
    assert announced[0] and PaidBackend.alive() == []
