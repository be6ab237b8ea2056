"""An emulated Google Cloud for the tests of the backend."""

import uuid

import pytest

from drillyard_backends.gcp.backend import GcpBackend
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.records import order_of


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with GcpEmulator(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def here(world, monkeypatch):
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    yield world
    world.clear_faults()
    plain = {
        "stockouts": [],
        "false_done": [],
        "boot_failures": 0,
        "notice_s": 30,
        "undeletable_s": 0,
    }
    world.physics(**plain, listing_lag_s=0, processes=True, lost_stay_listed=True, unreachable=[])


@pytest.fixture
def settings(here):
    return {
        "project": here.project,
        "bucket": f"lab-{uuid.uuid4().hex[:8]}",
        "service_account": here.service_account,
        "listing_lag_s": 0.0,
        # Machines without work must not leave before a slow test has looked at them.
        "idle_s": 3600,
    }


@pytest.fixture
def backend(settings):
    made = GcpBackend(**settings)
    made.prepare_store(made.store_url())
    return made


@pytest.fixture
def order(backend):
    return order_of(backend.store_url(), workers=1)


@pytest.fixture
def bodiless(here):
    """Machines without processes: the life of machines, not of work."""
    here.physics(processes=False)
    return here
