"""For tests that open a driver: a home, an empty mailbox in memory, and no driver after it."""

import itertools

import pytest

from drillyard.mailbox import Mailbox, open_store
from tests.helpers.open_drivers import closing

_numbers = itertools.count(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    with closing(monkeypatch):
        yield tmp_path / "project"


@pytest.fixture
def mailbox():
    return Mailbox(open_store(f"memory://driver-{next(_numbers)}"), "tiny")
