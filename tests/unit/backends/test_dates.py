"""The clocks of stores on other machines: what a proxy, a jump or a closed lid do to them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate

import pytest

from drillyard.errors import StoreUnavailable
from drillyard_backends.buckets import DateClock
from drillyard_backends.ssh.store import SftpStore

SERVER_S = 1_700_000_000.0
HOUR_S = 3600.0


@dataclass
class Machine:
    """This machine's two clocks."""

    wall_s: float = SERVER_S + 40.0
    monotonic_s: float = 500.0

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall_s)
    monkeypatch.setattr(time, "monotonic", lambda: machine.monotonic_s)
    return machine


def date(at_s: float) -> str:
    return formatdate(at_s, usegmt=True)


def nothing() -> None:
    """An answer without a date."""


def test_the_newest_answer_plus_the_time_since(machine):
    clock = DateClock()
    clock.read(date(SERVER_S))
    machine.passes(90.0)
    assert clock.now(nothing) == pytest.approx(SERVER_S + 90.0, abs=1.0)


@pytest.mark.parametrize("header", ["", "yesterday", "Tue, 99 Nov 2023 00:00:00 GMT"])
def test_without_a_date_it_is_this_machines_time(machine, header):
    clock = DateClock()
    clock.read(header)
    assert clock.now(nothing) == machine.wall_s


def test_a_proxy_that_answers_now_and_then_does_not_set_the_clock(machine):
    clock = DateClock()
    for _ in range(3):
        clock.read(date(SERVER_S))
        clock.read(date(SERVER_S - HOUR_S))
        assert clock.now(nothing) == pytest.approx(SERVER_S, abs=1.0)


def test_a_first_answer_of_a_proxy_is_corrected(machine):
    clock = DateClock()
    clock.read(date(SERVER_S + HOUR_S))
    clock.read(date(SERVER_S))
    clock.read(date(SERVER_S))
    assert clock.now(nothing) == pytest.approx(SERVER_S, abs=1.0)


def test_after_a_closed_lid_the_server_is_asked(machine):
    """The monotonic clock of Linux does not count while a machine sleeps."""
    clock = DateClock()
    clock.read(date(SERVER_S))
    machine.wall_s += HOUR_S
    asked = []

    def ask() -> None:
        asked.append(1)
        clock.read(date(SERVER_S + HOUR_S))

    for _ in range(3):
        assert clock.now(ask) == pytest.approx(SERVER_S + HOUR_S, abs=1.0)
    assert len(asked) == 1


def test_a_server_that_is_away_after_the_lid_leaves_the_old_count(machine):
    clock = DateClock()
    clock.read(date(SERVER_S))
    machine.wall_s += HOUR_S

    def away() -> None:
        raise StoreUnavailable("no answer")

    assert clock.now(away) == pytest.approx(SERVER_S, abs=1.0)
    for _ in range(2):
        clock.read(date(SERVER_S + HOUR_S))
    assert clock.now(nothing) == pytest.approx(SERVER_S + HOUR_S, abs=1.0)


def test_a_jump_of_this_machines_clock_is_not_one_of_the_sftp_server(machine, monkeypatch):
    store = SftpStore("ssh://nowhere/store")
    monkeypatch.setattr(store, "_measure_ahead", lambda: SERVER_S - machine.wall_s)
    assert store.now() == pytest.approx(SERVER_S)
    machine.wall_s += HOUR_S
    assert store.now() == pytest.approx(SERVER_S)
