"""The reaper: what it ends, what it never touches, what it says when it cannot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Cost, Lease, Liveness, Order
from drillyard.cli.main import main
from drillyard.errors import AccessDenied, UserError
from drillyard.leases.ledger import Ledger, local_intents
from drillyard.leases.reaper import Reaper, Report, Verdict, reap
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.verdict import Facts, judge
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import ExperimentRecord, Phase, TicketRecord
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import PaidBackend

NOW = 2_000_000_000.0
HOUR = 3600.0


@pytest.fixture(autouse=True)
def clock(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    clock = FakeClock(NOW)
    PaidBackend.reset(clock)
    MemoryStore.forget("aged://lab")
    return clock


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Facts(overdue_s=-60.0), Verdict.LIVE),  # its limit is to come, nobody knows more
        (Facts(overdue_s=None), Verdict.UNKNOWN),
        (Facts(overdue_s=599.0), Verdict.WAITING),
        (Facts(overdue_s=601.0), Verdict.EXPIRED),
        (Facts(overdue_s=601.0, protected_s=1.0), Verdict.PROTECTED),
        # Also with a driver: the provider should have ended it by itself.
        (Facts(overdue_s=601.0, readable=True, driven=True), Verdict.EXPIRED),
        (Facts(overdue_s=-60.0, readable=True, driven=True, quiet_s=9e9), Verdict.LIVE),
        (Facts(overdue_s=-60.0, readable=True, open_tickets=1, quiet_s=9e9), Verdict.LIVE),
        (Facts(overdue_s=None, readable=True, open_tickets=1, quiet_s=9e9), Verdict.LIVE),
        (Facts(overdue_s=-60.0, readable=True, quiet_s=599.0), Verdict.WAITING),
        (Facts(overdue_s=-60.0, readable=True, quiet_s=601.0), Verdict.EXPIRED),
        (
            Facts(overdue_s=-60.0, readable=True, gone=True, open_tickets=1, quiet_s=601.0),
            Verdict.EXPIRED,
        ),
        (Facts(overdue_s=-60.0, readable=True, in_ledger=False, quiet_s=601.0), Verdict.EXPIRED),
        (Facts(overdue_s=-60.0, readable=True, in_ledger=False, quiet_s=5.0), Verdict.WAITING),
    ],
)
def test_facts_about_a_lease_decide_whether_it_goes(facts, verdict):
    assert judge(facts, 600.0).verdict is verdict


def experiment(name: str, clock: FakeClock, *, open_ticket: bool = False) -> Mailbox:
    mailbox = Mailbox(open_store("aged://lab"), name)
    mailbox.write(
        "experiment.json", ExperimentRecord(name=name, spec={}, identity="x", created_at=NOW)
    )
    if open_ticket:
        mailbox.post(
            TicketRecord(ticket="t0001-s1.train", run="t0001-s1", phase=Phase.TRAIN, posted_at=NOW)
        )
    return mailbox


def rented(mailbox: Mailbox, clock: FakeClock, hours: float | None = 9.0, **changes: Any) -> str:
    """A lease as a driver rents it: intent, machine, record."""
    ledger = Ledger(mailbox, clock)
    ordinal, name = ledger.next_lease()
    order = Order(
        lease_id=name,
        experiment=mailbox.experiment,
        store_url=mailbox.store.url,
        deadline=None if hours is None else clock.now() + hours * HOUR,
        **changes,
    )
    ledger.intend(order, "paid", ordinal, Cost(per_hour=2.0))
    ledger.rented(PaidBackend().provision(order))
    return name


def reaped(clock: FakeClock, **options: Any) -> Report:
    return reap(["paid"], clock=clock, **options)


def test_what_is_of_no_use_is_ended_written_down_and_paid(clock):
    mailbox = experiment("done", clock)
    lease = rented(mailbox, clock)
    assert reaped(clock).outcomes[0].judgement.verdict is Verdict.WAITING
    clock.advance(HOUR)
    dry = reaped(clock, dry_run=True)
    assert dry.outcomes[0].judgement.verdict is Verdict.EXPIRED
    assert PaidBackend.alive() == [lease]
    assert PaidBackend.calls == [("provision", lease)]

    report = reaped(clock)
    assert report.good and [o.deleted for o in report.outcomes] == [True]
    assert PaidBackend.alive() == []
    (entry,) = Ledger(mailbox, clock).entries()
    assert entry.gone is not None and entry.gone.confirmed
    assert "reaped: no work is left" in entry.gone.reason
    assert entry.gone.cost == pytest.approx(2.0, rel=1e-3)
    assert list(local_intents()) == []
    assert [(x["action"], x["lease"]) for x in Audit().lines()] == [
        ("deleting", lease),
        ("deleted", lease),
    ]


def test_never_what_is_live_protected_or_foreign(clock):
    working = rented(experiment("working", clock, open_ticket=True), clock)
    driven_box = experiment("driven", clock)
    lock = DriverLock(driven_box, clock)
    lock.take(["drillyard", "run"])
    driven = rented(driven_box, clock)
    kept_box = experiment("kept", clock)
    kept = rented(kept_box, clock, hours=1.0)
    Ledger(kept_box, clock).protect(kept, NOW + 99 * HOUR, "me")
    foreign = PaidBackend().provision(
        Order(lease_id="somebody-elses", experiment="x", store_url="aged://lab", deadline=NOW)
    )
    clock.advance(5 * HOUR)
    report = reaped(clock)
    found = {o.lease.lease_id: o.judgement.verdict for o in report.outcomes}
    assert found == {working: Verdict.LIVE, driven: Verdict.LIVE, kept: Verdict.PROTECTED}
    assert set(PaidBackend.alive()) == {working, driven, kept, foreign.lease_id}
    lock.release("done")


def test_without_its_mailbox_only_the_limit_on_its_labels_counts(clock):
    backend = PaidBackend()
    for number, deadline in enumerate((NOW + HOUR, NOW + 9 * HOUR, None)):
        order = Order(
            lease_id=f"dy-000000000{number}",
            experiment="e",
            store_url="/nowhere/at/all",
            deadline=deadline,
        )
        backend.provision(order)
    clock.advance(2 * HOUR)
    report = reaped(clock)
    assert [o.judgement.verdict.value for o in report.outcomes] == ["expired", "live", "unknown"]
    assert PaidBackend.alive() == ["dy-0000000001", "dy-0000000002"]


def test_a_wrong_clock_of_this_machine_deletes_nothing(clock):
    rng = random.Random(7)
    leases = [
        rented(experiment(f"e{n}", clock, open_ticket=True), clock, hours=rng.uniform(0.3, 3.0))
        for n in range(40)
    ]
    for hours in (-1.0, 1.0, 24.0):
        ahead = FakeClock(NOW + hours * HOUR)
        report = reap(["paid"], clock=ahead)
        assert {o.judgement.verdict for o in report.outcomes} == {Verdict.LIVE}
    assert PaidBackend.alive() == leases


def test_a_machine_that_its_ledger_calls_gone_is_ended_after_all(clock):
    mailbox = experiment("e", clock, open_ticket=True)
    lease = rented(mailbox, clock)
    Ledger(mailbox, clock).gone(lease, "torn down")
    clock.advance(HOUR)
    assert reaped(clock).good
    assert PaidBackend.alive() == []


def test_the_listings_lag_and_lost_deletes_are_waited_out(clock):
    PaidBackend.listing_lag_s = 30.0
    lease = rented(experiment("e", clock), clock)
    clock.advance(HOUR)
    PaidBackend.lose_deletes = 2
    assert reaped(clock).good
    assert PaidBackend.alive() == []
    assert PaidBackend.calls.count(("teardown", lease)) >= 3


def test_repeated_failure_is_told_and_the_ledger_stays_open(clock, capsys, monkeypatch):
    mailbox = experiment("e", clock)
    lease = rented(mailbox, clock)
    clock.advance(HOUR)
    PaidBackend.forbidden = True
    monkeypatch.setattr("drillyard.leases.reaper.reaper.CONFIRM_S", 0.2)
    first = reaped(clock)
    assert not first.good and first.undeletable == []
    second = reaped(clock)
    assert [o.failures for o in second.undeletable] == [2]
    # Also for a reaper that runs somewhere else each time.
    third = reaped(clock, home=Path("another-home"))
    assert [o.failures for o in third.undeletable] == [3]
    assert Ledger(mailbox, clock).entries()[0].open
    assert main(["reap", "--on", "paid"]) == 4
    assert f"{lease}: deleting failed 4 times" in capsys.readouterr().err
    PaidBackend.forbidden = False
    assert main(["reap", "--on", "paid", "--json"]) == 0
    assert PaidBackend.alive() == []
    assert Audit().failures(lease) == 0


def test_one_lease_that_cannot_be_ended_does_not_end_the_reaping(clock, monkeypatch):
    """Whatever its provider says, and whatever comes out of a library."""
    boxes = [experiment(name, clock) for name in ("a", "b", "c")]
    leases = [rented(box, clock) for box in boxes]
    clock.advance(HOUR)
    monkeypatch.setattr("drillyard.leases.reaper.reaper.CONFIRM_S", 0.2)
    PaidBackend.refusals = {
        leases[0]: [UserError("409: it is being changed")] * 99,
        leases[1]: [RuntimeError("nobody has heard of this")] * 99,
    }
    report = reaped(clock)
    found = {o.lease.lease_id: o for o in report.outcomes}
    assert {lease: found[lease].deleted for lease in leases} == dict(
        zip(leases, [False, False, True], strict=True)
    )
    assert "409" in found[leases[0]].problem and "nobody has heard" in found[leases[1]].problem
    assert PaidBackend.alive() == leases[:2]
    PaidBackend.refusals = {}
    assert reaped(clock).good
    assert PaidBackend.alive() == []


def test_a_lease_that_nobody_may_look_at_does_not_end_the_reaping(clock, monkeypatch):
    """One that only this machine remembers."""
    mailbox = experiment("e", clock)
    Ledger(mailbox, clock).intend(
        Order(lease_id="dy-0123456789", experiment="e", store_url="aged://lab"), "paid", 1, Cost()
    )
    listed = rented(experiment("f", clock), clock)
    clock.advance(HOUR)

    def refuse(self: PaidBackend, lease: Lease, ticket_id: str | None = None) -> Liveness:
        raise AccessDenied("403: you may not look")

    monkeypatch.setattr(PaidBackend, "probe", refuse)
    report = reap(None, clock=clock)
    assert [o.deleted for o in report.outcomes if o.lease.lease_id == listed] == [True]
    assert any("may not look" in text for text in report.problems.values()) and not report.good
    assert [intent.order.lease_id for intent in local_intents()] == ["dy-0123456789"]


def test_an_intent_whose_lease_never_came_is_closed(clock):
    mailbox = experiment("e", clock)
    ledger = Ledger(mailbox, clock)
    ordinal, name = ledger.next_lease()
    order = Order(lease_id=name, experiment="e", store_url="aged://lab")
    ledger.intend(order, "paid", ordinal, Cost())
    assert reap(None, clock=clock).settled == []
    clock.advance(HOUR)
    assert reap(None, clock=clock).settled == [name]
    assert list(local_intents()) == []
    assert not ledger.entries()[0].open


def test_protect_writes_to_mailbox_and_machines(clock, capsys, monkeypatch):
    mailbox = experiment("e", clock)
    lease = rented(mailbox, clock)
    assert main(["protect", lease, "--until", "2040-01-01", "--store", "aged://lab"]) == 0
    assert "protected until 2040-01-01 00:00 UTC (mailbox, machines)" in capsys.readouterr().out
    clock.advance(2 * HOUR)
    assert reaped(clock).outcomes[0].judgement.verdict is Verdict.PROTECTED
    # The mark on the machines is enough where the mailbox is lost.
    mailbox.store.delete(f"e/leases/{lease}/protect.json")
    assert reaped(clock).outcomes[0].judgement.verdict is Verdict.PROTECTED
    assert main(["protect", lease, "--off", "--store", "aged://lab"]) == 0
    assert reaped(clock).outcomes[0].deleted is True
    assert main(["protect", "dy-ffffffffff", "--until", "1h", "--store", "aged://lab"]) == 2
    assert main(["protect", lease, "--until", "soon"]) == 2
    assert main(["protect", lease]) == 2


def test_a_backend_that_cannot_be_listed_is_told(clock, monkeypatch, capsys):
    from drillyard.errors import InfrastructureError

    def fail(self: PaidBackend) -> None:
        raise InfrastructureError("no answer")

    monkeypatch.setattr(PaidBackend, "leases", fail)
    assert main(["reap", "--on", "paid"]) == 4
    assert "paid: cannot be listed: no answer" in capsys.readouterr().err


def test_leases_are_ended_side_by_side_in_steps_that_never_wait(clock):
    PaidBackend.listing_lag_s = 30.0
    leases = [rented(experiment(name, clock), clock) for name in ("a", "b", "c")]
    clock.advance(HOUR)
    reaper = Reaper(["paid"], dry_run=False, grace_s=600.0, clock=clock, home=None, confirm_s=60.0)
    begun, waits = clock.now(), []
    while (wait_s := reaper.step(clock.monotonic())) is not None:
        assert clock.now() == begun + sum(waits), "a step waits"
        waits.append(wait_s)
        clock.advance(wait_s)
    assert sorted(o.lease.lease_id for o in reaper.report.outcomes) == sorted(leases)
    assert reaper.report.good and PaidBackend.alive() == []
    # One after the other it would be three times twice the lag of the listing.
    assert 2 * 30.0 <= sum(waits) < 3 * 2 * 30.0
