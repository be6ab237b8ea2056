"""Who was ending a lease sleeps, and another command uses the lease again meanwhile."""

from __future__ import annotations

from drillyard.errors import StoreUnavailable
from drillyard.leases.ledger import Ledger
from drillyard.leases.manager import Ending
from drillyard.leases.reaper import Reaper, Verdict
from drillyard.mailbox.records import Phase, TicketRecord
from tests.helpers.paid_backend import PaidBackend
from tests.unit.leases.test_other_clocks import HOUR_S, Skewed, command, mailbox, taken_over, true

__all__ = ["mailbox", "true"]
ASLEEP_S = 300.0


def test_a_teardown_that_slept_leaves_the_machines_of_the_next_driver_alone(mailbox, true):
    """Only its beginning looked: it ended them again and again."""
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    PaidBackend.lose_deletes = 1
    teardown = driver.begin_teardown()
    assert teardown.step(true.monotonic()) is not None
    taken_over(mailbox, 2)
    Ledger(mailbox).not_ending(lease.lease_id)
    true.advance(ASLEEP_S)
    PaidBackend.calls.clear()
    assert teardown.step(true.monotonic()) is None
    assert PaidBackend.calls == [] and PaidBackend.alive() == [lease.lease_id]


def test_a_teardown_goes_on_while_the_store_is_away(mailbox, true):
    """The machines cost money meanwhile."""
    driver = command(mailbox, Skewed(true, 0.0))
    driver.provision()
    PaidBackend.lose_deletes = 1
    looks: list[int] = []

    def may() -> None:
        looks.append(1)
        if len(looks) > 1:
            raise StoreUnavailable("503")

    ending = Ending(driver._leases, 60.0, may)
    while (wait_s := ending.step(true.monotonic())) is not None:
        true.advance(wait_s)
    assert len(looks) > 1 and PaidBackend.alive() == []


def test_a_reaper_that_slept_judges_a_lease_that_is_used_again(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    driver.close("left")
    true.advance(HOUR_S)
    PaidBackend.lose_deletes = 1
    reaper = Reaper(["paid"], dry_run=False, grace_s=0.0, clock=true, home=None, confirm_s=60.0)
    while ("teardown", lease.lease_id) not in PaidBackend.calls:
        assert reaper.step(true.monotonic()) is not None
    mailbox.post(
        TicketRecord(ticket="t0001-s9.train", run="t0001-s9", phase=Phase.TRAIN, posted_at=0.0)
    )
    Ledger(mailbox).not_ending(lease.lease_id)
    true.advance(ASLEEP_S)
    PaidBackend.calls.clear()
    while (wait_s := reaper.step(true.monotonic())) is not None:
        true.advance(wait_s)
    assert PaidBackend.calls == [] and PaidBackend.alive() == [lease.lease_id]
    (outcome,) = reaper.report.outcomes
    assert outcome.judgement.verdict is Verdict.LIVE and not outcome.deleted
