"""A clock, and an experiment whose machines cost money."""

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import ExperimentRecord
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.weekend import FILE

STORE = "aged://ended-alone"


@pytest.fixture
def clock(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = FakeClock()
    PaidBackend.reset(made)
    return made


@pytest.fixture
def mailbox(clock, tmp_path):
    (tmp_path / "m.yaml").write_text(FILE)
    made = Mailbox(MemoryStore(STORE, clock), "m")
    made.write(
        "experiment.json",
        ExperimentRecord(name="m", spec={}, identity="x", created_at=clock.now()),
    )
    yield made
    MemoryStore.forget(STORE)
