"""A limit in Prefect whose server goes away: no result is lost, and nothing looks like a bug."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind
from drillyard.driver.six_phases import drive
from drillyard.driver.view import NoView
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard.mailbox import Mailbox, open_store
from drillyard.testing.clock import FakeClock
from drillyard_flows import limits
from tests.helpers.tiny_backend import ThreadBackend, tiny

pytestmark = pytest.mark.heavy
AWAY = ConnectionError("All connection attempts failed")


class Limited(NoView):
    """Shows nothing, and holds the slots."""

    @contextlib.contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        with limits.slots(driver):
            yield


@pytest.fixture
def driver(tmp_path):
    loaded = tiny(tmp_path / "experiment", resources={"limit": "licences"})
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "tiny")
    driver = Driver(loaded, mailbox, ThreadBackend())
    driver.open()
    yield driver
    driver.close("done")


def held(
    monkeypatch: pytest.MonkeyPatch, *answers: Exception | None, at_end: bool = False
) -> None:
    """Prefect's context manager answers so, in turn; the last answer stays."""
    left = list(answers)

    @contextlib.contextmanager
    def concurrency(name: str, **_: object) -> Iterator[None]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is not None:
            raise answer
        yield
        if at_end:
            raise AWAY

    monkeypatch.setattr(limits, "concurrency", concurrency)
    monkeypatch.setattr(limits, "_must_suffice", lambda name, many: None)


def test_results_count_although_the_slots_could_not_be_released(driver, monkeypatch, caplog):
    held(monkeypatch, None, at_end=True)
    caplog.set_level(logging.WARNING)
    outcome = drive(driver, view=Limited(), report=False)
    assert (outcome.kind, outcome.error) == (Kind.SUCCEEDED, None)
    assert "the slots of the limit 'licences' could not be released" in caplog.text
    record = driver.mailbox.driver()
    assert record is not None and record.ended_at is not None


def test_an_outage_while_it_waits_is_waited_for(driver, monkeypatch):
    held(monkeypatch, AWAY, AWAY, None)
    monkeypatch.setattr(limits, "LOOK_S", 0.01)
    with limits.slots(driver):
        began = True
    assert began


def test_a_server_that_stays_away_is_said_plainly(driver, monkeypatch):
    held(monkeypatch, AWAY)
    monkeypatch.setattr(driver, "clock", FakeClock())
    with pytest.raises(ControlPlaneError, match="which counts the limit 'licences'"):
        limits.slots(driver).__enter__()
    assert driver.lease is None


@pytest.mark.parametrize("first", [ConnectionError("away"), OSError("away")])
def test_a_limit_that_cannot_be_read_at_first_is_said_plainly(driver, monkeypatch, first):
    held(monkeypatch, None)

    def fails(name: str, many: int) -> None:
        raise first

    monkeypatch.setattr(limits, "_must_suffice", fails)
    monkeypatch.setattr(driver, "clock", FakeClock())
    with pytest.raises(ControlPlaneError, match="which counts the limit 'licences'"):
        limits.slots(driver).__enter__()


def test_a_limit_that_is_deleted_meanwhile_is_refused(driver, monkeypatch):
    held(monkeypatch, AWAY)
    asked: list[int] = []

    def suffices(name: str, many: int) -> None:
        asked.append(many)
        if len(asked) > 1:
            raise ConfigError("Prefect has no such global concurrency limit")

    monkeypatch.setattr(limits, "_must_suffice", suffices)
    monkeypatch.setattr(limits, "LOOK_S", 0.01)
    with pytest.raises(ConfigError, match="no such global"):
        limits.slots(driver).__enter__()
