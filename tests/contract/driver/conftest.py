"""For every test of the driver: a home, a mailbox, a folder; no driver, no machine after it."""

import pytest

from drillyard.mailbox import Mailbox, open_store
from tests.helpers.open_drivers import closing
from tests.helpers.tiny_backend import ThreadBackend


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    with closing(monkeypatch):
        yield
    for _, worker in ThreadBackend.alive.values():
        worker.die()
        worker.join(5.0)
    ThreadBackend.alive.clear()


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(open_store(str(tmp_path / "store")), "tiny")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "project"
