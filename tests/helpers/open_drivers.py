"""Drivers that a test opened are closed after it, whatever it did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drillyard.driver.driver import Driver
from drillyard.mailbox.records import TicketRecord


@contextmanager
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Driver]]:
    """Close every driver that is opened inside the block; gives their list."""
    opened: list[Driver] = []
    original = Driver.open

    def recorded(driver: Driver) -> list[TicketRecord]:
        opened.append(driver)
        return original(driver)

    monkeypatch.setattr(Driver, "open", recorded)
    try:
        yield opened
    finally:
        for driver in opened:
            driver.close("test over")
