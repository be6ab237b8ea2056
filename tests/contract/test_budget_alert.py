"""The alert at 80 % of `budget.max_hours` counts the machines' life, as their limit does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.backend import open_backend
from drillyard.driver.driver import Driver
from drillyard.leases.ledger import Ledger
from drillyard.leases.manager import LeaseManager
from drillyard.leases.orders import preview
from drillyard.leases.places import Place
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec.load import Loaded
from drillyard.testing.clock import FakeClock
from drillyard_flows.events import BUDGET, Watch
from tests.helpers.paid_backend import PaidBackend

HOUR_S = 3600.0
SPEC = {
    "schema": 1,
    "name": "m",
    "workload": "mock",
    "backend": "paid",
    "seeds": [1],
    "budget": {"max_hours": 1.0, "max_cost": 100.0},
    "tracking": {"mlflow": None},
}


class Before:
    """Commands of the past hours: they rented, were killed, and their machines live on."""

    def __init__(self, folder: Path, hours_ago: float) -> None:
        self.clock = FakeClock(time.time() - hours_ago * HOUR_S)
        PaidBackend.reset(self.clock)
        (folder / "m.json").write_text(json.dumps(SPEC))
        self.loaded: Loaded = drillyard.load(folder / "m.json")
        self.mailbox = Mailbox(open_store(str(folder / "store")), "m")
        self.ledger = Ledger(self.mailbox, self.clock)
        self.command()

    def command(self) -> None:
        """Another command begins."""
        self.leases = LeaseManager(
            self.mailbox, open_backend("paid", {}), Ledger(self.mailbox, self.clock), self.clock
        )

    def _order(self, lease: str, _: Place) -> Any:
        order = preview(self.loaded.spec, self.mailbox.store.url)
        return order.model_copy(update={"lease_id": lease})

    def rents(self) -> None:
        self.leases.rent(self.loaded.spec, self._order)

    def loses(self) -> None:
        """The provider takes the machine, and the command rents another one."""
        lease = self.leases.lease
        PaidBackend.machines[lease.lease_id].gone_at = self.clock.now()
        self.leases.replace(self.loaded.spec, self._order)

    def passes(self, minutes: float) -> None:
        self.clock.advance(minutes * 60.0)

    def deadline_in_h(self) -> float:
        """Hours until the living machine's own limit."""
        (entry,) = [e for e in self.ledger.entries() if e.open]
        assert entry.intent.order.deadline is not None
        return (entry.intent.order.deadline - self.clock.now()) / HOUR_S


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


def alerts_of_a_new_driver(before: Before) -> list[dict[str, Any]]:
    """What the watch of a driver says that takes over now, by the machine's own clock."""
    PaidBackend.clock = before.clock
    assert before.clock.now() == pytest.approx(time.time(), abs=60.0)
    driver = Driver(before.loaded, before.mailbox, open_backend("paid", {}))
    told: list[dict[str, Any]] = []
    try:
        driver.open()
        watch = Watch(driver, lambda event, _, **said: told.append({"event": event, **said}))
        watch.look()
        driver.provision()
        watch.look()
    finally:
        driver.close("seen")
    return told


def test_a_resumed_command_is_told_at_once_when_its_machines_have_lived_long(tmp_path):
    before = Before(tmp_path, hours_ago=50 / 60)
    before.rents()
    before.passes(50)
    (told,) = alerts_of_a_new_driver(before)
    assert (told["event"], told["limit"]) == (BUDGET, "budget.max_hours")
    assert told["used"] == pytest.approx(50 / 60, abs=0.02)


def test_a_machine_that_replaced_another_one_counts_with_it(tmp_path):
    before = Before(tmp_path, hours_ago=50 / 60)
    before.rents()
    before.passes(30)
    before.loses()
    before.passes(20)
    assert before.deadline_in_h() == pytest.approx(10 / 60)  # its own limit counts both lives
    (told,) = alerts_of_a_new_driver(before)
    assert told["limit"] == "budget.max_hours"
    assert told["used"] == pytest.approx(50 / 60, abs=0.02)


def test_machines_of_a_command_that_came_to_its_end_do_not_count(tmp_path):
    before = Before(tmp_path, hours_ago=60 / 60)
    before.rents()
    before.passes(55)
    before.leases.end_all(60.0, lambda: None)
    before.passes(5)
    assert alerts_of_a_new_driver(before) == []


def test_a_limit_that_was_reached_between_two_looks_is_told_after_the_end(tmp_path):
    before = Before(tmp_path, hours_ago=50 / 60)
    before.rents()
    told: list[str] = []
    driver = Driver(before.loaded, before.mailbox, open_backend("paid", {}))
    before.passes(50)
    watch = Watch(driver, lambda event, _, **said: told.append(said["limit"]))
    before.passes(0.1)
    before.leases.end_all(60.0, lambda: None)
    watch.look()
    assert told == ["budget.max_hours"]


def test_a_replacement_after_a_resume_may_live_for_the_rest_of_the_hours(tmp_path):
    """Before it, the life of a machine that was adopted counted twice when that was lost."""
    before = Before(tmp_path, hours_ago=30 / 60)
    before.rents()
    before.passes(20)
    before.command()
    before.rents()  # adopts what lives
    before.passes(10)
    before.loses()
    assert before.deadline_in_h() == pytest.approx(30 / 60)
