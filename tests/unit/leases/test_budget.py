"""Money: limits that are mandatory, the sum before anything is rented, the plan, the bill."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from drillyard.backend import Cost, Lease, Order, Part
from drillyard.backend.prices import aged
from drillyard.cli.main import main
from drillyard.errors import (
    AccessDenied,
    InfrastructureError,
    NoCapacity,
    NotFound,
    SignInRefused,
    TeardownUnconfirmed,
    UserError,
)
from drillyard.leases.ledger import Ledger
from drillyard.leases.manager import LeaseManager
from drillyard.leases.orders import preview
from drillyard.leases.places import Place
from drillyard.leases.release import release_confirmed
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import Clock
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import TODAY, PaidBackend
from tests.helpers.weekend import FILE


@pytest.fixture(autouse=True)
def _paid(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    PaidBackend.reset(clock)
    return clock


def written(tmp_path: Path, budget: str = "") -> str:
    path = tmp_path / "m.yaml"
    path.write_text(FILE.partition("budget")[0] + (f"budget: {budget}\n" if budget else ""))
    return str(path)


def spec(**budget: float) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {
            "name": "m",
            "workload": "mock",
            "seeds": [1, 2, 3],
            "backend": "paid",
            "resources": {"workers": 3},
            "budget": budget,
        }
    )


@pytest.mark.heavy
@pytest.mark.parametrize("command", ["check", "plan", "run"])
@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("", ["budget.max_hours", "budget.max_cost", "is mandatory on 'paid', which costs money"]),
        ("{max_hours: 2}", ["budget.max_cost", "is mandatory on 'paid'"]),
        ("{max_cost: 2}", ["budget.max_hours", "is mandatory on 'paid'"]),
        (
            "{max_hours: 10, max_cost: 5}",
            [
                f"6.00 USD an hour x 10 h = 60.00 USD (prices of {TODAY})",
                "more than max_cost = 5",
                "set budget.max_cost to 60.00, or budget.max_hours to 0.83",
            ],
        ),
    ],
)
def test_without_limits_or_over_them_nothing_is_rented(command, budget, said, tmp_path, capsys):
    assert main([command, written(tmp_path, budget)]) == 2
    output = " ".join("".join(capsys.readouterr()).split())
    for text in said:
        assert text in output
    assert PaidBackend.calls == []
    assert not (tmp_path / "drillyard-runs").exists()
    assert not (tmp_path / "home").exists()


def test_max_hours_of_zero_is_refused_by_line(tmp_path, capsys):
    assert main(["plan", written(tmp_path, "{max_hours: 0, max_cost: 1}")]) == 2
    error = capsys.readouterr().err
    assert "m.yaml:7" in error and "budget.max_hours" in error


@pytest.mark.heavy
def test_the_plan_shows_machines_and_the_sum_and_creates_nothing(tmp_path, capsys):
    file = written(tmp_path, "{max_hours: 2, max_cost: 20}")
    assert main(["plan", file]) == 0
    text = capsys.readouterr().out
    assert "machine x1" in text and "a, b" in text
    assert "price: 6.000 USD an hour, at most 12.000 USD in 2 h (budget.max_cost is 20)" in text
    assert "Nothing was created." in text
    assert main(["plan", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["machines"], found["cost"]["total"], found["possible"]) == (3, 12.0, True)
    assert PaidBackend.calls == []
    assert not (tmp_path / "drillyard-runs").exists()


@pytest.mark.parametrize(
    ("prices_of", "share"),
    [
        ("2026-11-26", 0),
        ("2026-10-27", 0),
        ("2026-10-26", 1),
        ("2025-06-01", 17),
        ("2024-05-26", 30),
        ("2019-01-01", 30),
        ("2027-01-01", 0),
        ("your settings", 0),
        ("", 0),
    ],
)
def test_old_prices_count_a_percent_more_for_each_month_as_a_part_of_its_own(prices_of, share):
    now = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
    listed = Cost(per_hour=2.0, prices_of=prices_of, parts=[Part(what="machine", per_hour=2.0)])
    cost = aged(listed, now)
    assert cost.per_hour == pytest.approx(2.0 * (1 + share / 100))
    assert sum(p.per_hour * p.count for p in cost.parts) == pytest.approx(cost.per_hour)
    margins = [p for p in cost.parts if p.what == f"margin for prices of {prices_of}"]
    assert [p.note.partition(" %")[0] for p in margins] == ([str(share)] if share else [])
    assert aged(Cost(prices_of=prices_of), now) == Cost(prices_of=prices_of), "free stays free"


def test_max_cost_is_kept_with_the_margin_and_the_plan_shows_age_and_margin(
    tmp_path, capsys, monkeypatch, _paid
):
    old = (date.today() - timedelta(days=15 * 31)).isoformat()
    given = PaidBackend.estimate
    monkeypatch.setattr(
        PaidBackend,
        "estimate",
        lambda self, order: given(self, order).model_copy(update={"prices_of": old}),
    )
    path = written(tmp_path, "{max_hours: 2, max_cost: 13}")
    assert main(["plan", path]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert f"margin for prices of {old}" in shown and "15 %: 1 % for each month" in shown
    assert f"{old}, 15 months old" in shown
    assert "= 13.80 USD (prices of" in shown and "more than max_cost = 13 " in shown
    assert main(["plan", path, "--set", "budget.max_cost=13.81"]) == 0


def test_an_unknown_price_needs_a_price_or_an_explicit_word(tmp_path, capsys, monkeypatch):
    """Never a dead end: the refusal names both ways, and the second one works."""
    monkeypatch.setattr(PaidBackend, "unpriced", ["z9-big-1"])
    limited = written(tmp_path, "{max_hours: 2, max_cost: 20}")
    assert main(["plan", limited]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert f"the price list of {TODAY} has no z9-big-1" in text
    assert "budget.no_cost_limit: true instead of budget.max_cost" in text
    assert PaidBackend.calls == []
    free = written(tmp_path, "{max_hours: 2, no_cost_limit: true}")
    assert main(["plan", free]) == 0
    assert "no limit of cost" in capsys.readouterr().out
    both = written(tmp_path, "{max_hours: 2, max_cost: 5, no_cost_limit: true}")
    assert main(["plan", both]) == 2
    assert "budget.no_cost_limit" in capsys.readouterr().err
    assert main(["plan", written(tmp_path, "{no_cost_limit: true}")]) == 2
    assert "budget.max_hours" in capsys.readouterr().out


def test_without_a_limit_of_cost_the_driver_rents_by_max_hours_alone(tmp_path, _paid):
    manager, ledger, _ = leases(tmp_path, _paid)
    free = spec(max_hours=2, no_cost_limit=True)
    lease = manager.rent(free, lambda name, _: Order(lease_id=name, experiment="m", store_url="s"))
    assert lease.order.deadline_of == "budget.max_hours = 2"
    assert [entry.open for entry in ledger.entries()] == [True]


def leases(tmp_path: Path, clock: Clock) -> tuple[LeaseManager, Ledger, Mailbox]:
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "m")
    ledger = Ledger(mailbox, clock, tmp_path / "home")
    return LeaseManager(mailbox, PaidBackend(), ledger, clock), ledger, mailbox


def test_a_machines_own_limit_is_what_is_left_of_both(tmp_path, _paid):
    rented, ledger, mailbox = leases(tmp_path, _paid)
    what = spec(max_hours=2, max_cost=9)

    def order(lease: str, _: Place):  # type: ignore[no-untyped-def]
        return preview(what, mailbox.store.url).model_copy(update={"lease_id": lease})

    first = rented.rent(what, order)
    # 6 an hour: the money would end after 1.5 h, before the time does.
    assert first.order.deadline == _paid.now() + 1.5 * 3600
    assert ledger.entries()[0].intent.cost.total == pytest.approx(9.0)
    _paid.advance(3600.0)
    PaidBackend.machines[first.lease_id].gone_at = _paid.now()
    second = rented.replace(what, order)
    assert second.order.deadline == pytest.approx(_paid.now() + 0.5 * 3600)
    assert ledger.spent() == pytest.approx(6.0)


def test_the_driver_rents_nothing_without_limits(tmp_path, _paid):
    rented, _, mailbox = leases(tmp_path, _paid)
    with pytest.raises(UserError, match="no limit"):
        rented.rent(spec(max_hours=1), lambda _, __: preview(spec(), mailbox.store.url))
    assert PaidBackend.calls == []


def test_a_lease_over_its_deadline_is_ended_and_not_adopted(tmp_path, _paid):
    rented, _, mailbox = leases(tmp_path, _paid)
    what = spec(max_hours=1, max_cost=100)

    def order(lease: str, _: Place):  # type: ignore[no-untyped-def]
        return preview(what, mailbox.store.url).model_copy(update={"lease_id": lease})

    first = rented.rent(what, order)
    _paid.advance(3700.0)
    again, _, _ = leases(tmp_path, _paid)
    second = again.rent(what, order)
    assert second.lease_id != first.lease_id
    assert PaidBackend.alive() == [second.lease_id]


def test_a_lease_that_was_written_off_and_came_back_is_ended_too(tmp_path, _paid):
    rented, ledger, mailbox = leases(tmp_path, _paid)
    what = spec(max_hours=1, max_cost=100)

    def order(lease: str, _: Place):  # type: ignore[no-untyped-def]
        return preview(what, mailbox.store.url).model_copy(update={"lease_id": lease})

    first = rented.rent(what, order)
    PaidBackend.machines[first.lease_id].gone_at = _paid.now()
    rented.replace(what, order)
    # Its provider said that it was gone, and it was not.
    PaidBackend.machines[first.lease_id].gone_at = None
    rented.end_all(60.0, lambda: None)
    assert PaidBackend.alive() == []
    assert all(e.gone is not None and e.gone.confirmed for e in ledger.entries())


def test_one_lease_that_cannot_be_ended_keeps_no_other_alive(tmp_path, _paid, monkeypatch):
    rented, ledger, mailbox = leases(tmp_path, _paid)
    made = []
    for _ in range(3):
        ordinal, name = ledger.next_lease()
        order = preview(spec(), mailbox.store.url).model_copy(update={"lease_id": name})
        ledger.intend(order, "paid", ordinal, Cost())
        made.append(PaidBackend().provision(order).lease_id)
    end = PaidBackend.teardown

    def refuse_first(self: PaidBackend, lease: Lease) -> None:
        if lease.lease_id == made[0]:
            raise InfrastructureError("403")
        end(self, lease)

    monkeypatch.setattr(PaidBackend, "teardown", refuse_first)
    with pytest.raises(TeardownUnconfirmed, match=made[0]):
        rented.end_all(10.0, lambda: None)
    assert PaidBackend.alive() == made[:1]
    assert [e.open for e in ledger.entries()] == [True, False, False]


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_teardown_waits_out_the_listings_lag(lost, _paid):
    backend = PaidBackend()
    PaidBackend.listing_lag_s, PaidBackend.lose_deletes = 20.0, lost
    order = preview(spec(), "memory://lag")
    lease = backend.provision(order)
    # Just created: not listed yet, and "nothing is listed" must not be believed.
    began = _paid.now()
    release_confirmed(backend, lease, timeout_s=120.0, clock=_paid)
    assert PaidBackend.alive() == []
    assert _paid.now() - began >= 40.0


def test_teardown_that_is_not_confirmed_says_so(_paid):
    backend = PaidBackend()
    PaidBackend.forbidden = True
    lease = backend.provision(preview(spec(), "memory://lag"))
    with pytest.raises(TeardownUnconfirmed, match="403"):
        release_confirmed(backend, lease, timeout_s=30.0, clock=_paid)


@pytest.mark.parametrize(
    "refusals",
    [
        [UserError("400: the job has just ended")],
        [InfrastructureError("409: it is being changed"), NotFound("404")],
        [NoCapacity("quota"), UserError("400"), InfrastructureError("busy")],
    ],
    ids=str,
)
def test_a_refusal_leads_to_another_look(refusals, _paid):
    backend = PaidBackend()
    lease = backend.provision(preview(spec(), "memory://refused"))
    PaidBackend.refusals = {lease.lease_id: list(refusals)}
    began = _paid.now()
    release_confirmed(backend, lease, timeout_s=60.0, clock=_paid)
    assert PaidBackend.alive() == []
    asked = PaidBackend.calls.count(("teardown", lease.lease_id))
    assert asked == len(refusals) + 1  # each once, in a second or two
    assert _paid.now() - began < 10.0


def test_what_is_refused_to_the_end_is_named(_paid):
    """It is asked again, but not as fast as a loop can: a provider counts the questions."""
    backend = PaidBackend()
    lease = backend.provision(preview(spec(), "memory://refused"))
    PaidBackend.refusals = {lease.lease_id: [UserError("400: no")] * 1000}
    with pytest.raises(TeardownUnconfirmed, match="400: no"):
        release_confirmed(backend, lease, timeout_s=60.0, clock=_paid)
    assert 50 <= PaidBackend.calls.count(("teardown", lease.lease_id)) <= 65


@pytest.mark.parametrize("error", [AccessDenied("403", hint="grant it"), SignInRefused("401")])
def test_a_missing_right_ends_the_waiting_at_once(error, _paid):
    backend = PaidBackend()
    lease = backend.provision(preview(spec(), "memory://refused"))
    PaidBackend.refusals = {lease.lease_id: [error] * 1000}
    began = _paid.now()
    with pytest.raises(TeardownUnconfirmed, match=str(error)) as raised:
        release_confirmed(backend, lease, timeout_s=60.0, clock=_paid)
    assert raised.value.hint
    assert _paid.now() == began
    assert PaidBackend.calls.count(("teardown", lease.lease_id)) == 1


@pytest.mark.parametrize("up", [True, False])
def test_remains_without_a_machine_do_not_stop_a_rental(up, _paid, tmp_path):
    """The teardown at the end asks for them again. A machine that is up is ended first."""
    mailbox = Mailbox(open_store("memory://again"), "m")
    ledger = Ledger(mailbox, _paid, tmp_path / "home")
    manager = LeaseManager(mailbox, PaidBackend(), ledger, _paid)

    def order(lease: str, _: Place) -> Order:
        return preview(spec(), "memory://again").model_copy(update={"lease_id": lease})

    limits = spec(max_hours=1, max_cost=100)
    first = manager.rent(limits, order)
    if not up:
        PaidBackend.machines[first.lease_id].gone_at = _paid.now()
    PaidBackend.refusals = {first.lease_id: [InfrastructureError("409: it is being changed")]}
    began = _paid.now()
    second = manager.replace(limits, order)
    assert second.lease_id != first.lease_id
    assert PaidBackend.alive() == [second.lease_id]
    assert (_paid.now() > began) is up
    manager.end_all(60.0, lambda: None)
    assert PaidBackend.alive() == []


@pytest.mark.heavy
def test_the_bill_has_a_row_an_interval(tmp_path, _paid, capsys):
    file = written(tmp_path, "{max_hours: 2, max_cost: 20}")
    from drillyard.runs import submit
    from drillyard.spec.load import load

    store = open_store("drillyard-runs")
    mailbox = Mailbox(store, "m")
    submit.write(submit.plan(load(file), mailbox, None), mailbox)
    ledger = Ledger(mailbox, _paid, tmp_path / "home")
    for hours in (0.5, 1.0):
        ordinal, name = ledger.next_lease()
        order = preview(spec(), store.url).model_copy(update={"lease_id": name})
        ledger.intend(order, "paid", ordinal, Cost(per_hour=6.0, spot=True, prices_of="2026-11"))
        _paid.advance(hours * 3600)
        ledger.gone(name, "torn down")
    assert main(["cost", "m"]) == 0
    text = capsys.readouterr().out
    assert "m: 9.00 USD of 20, 11.00 left" in text and "paid Spot" in text
    assert main(["cost", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [i["cost"] for i in found["intervals"]] == [3.0, 6.0]
    assert [i["ended_at"] - i["began_at"] for i in found["intervals"]] == [1800.0, 3600.0]


LISTED = {"chooser": "list", "experiments": [{"seeds": [1, 2]}, {"mock": {"seconds": 0.1}}]}
DRAWN = {"chooser": "random", "trials": 40}
TUNED = {
    "tunables": {"g": {"params": {"x": {"type": "float", "range": [0, 1], "default": 0.5}}}},
    "tunable_params": ["g"],
}


@pytest.mark.parametrize(
    ("given", "workers"),
    [
        ({}, 3),
        ({"resources": {"workers": 2}}, 2),
        ({"backend": "local"}, 2),
        ({"study": LISTED}, 5),
        ({"study": LISTED, "resources": {"workers": 4}}, 4),
        ({"study": {**LISTED, "trials": 1}}, 2),
        ({"study": DRAWN, "parameters": TUNED}, 2),
        ({"study": DRAWN, "parameters": TUNED, "resources": {"workers": 7}}, 7),
        ({"study": {"chooser": "manual", "cycles": [{"x": 0}, {"x": 1}]}, "parameters": TUNED}, 6),
    ],
)
def test_a_machine_for_each_run_that_is_listed(given, workers):
    """And the plan counts what the run will rent, so that a study is held against its budget."""
    whole = {"name": "m", "workload": "mock", "seeds": [1, 2, 3], "backend": "paid", **given}
    found = ExperimentSpec.model_validate(whole)
    assert preview(found, "memory://lag").workers == workers
