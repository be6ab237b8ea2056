"""The contract of backends, on an emulated Google Cloud."""

import uuid

import pytest

from drillyard.testing.backend_suite import BackendSuite
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_emulators.http.handle import GcpEmulator
from tests.benchmarks.virtual_clock import VirtualClock
from tests.emulated.troubles import no_requests, refusals
from tests.helpers.records import order_of


class TestGcpBackend(BackendSuite):
    def broken(self, error):
        return no_requests(error)

    def machine(self, lease):
        return f"{lease.lease_id}-w0-0"

    @pytest.fixture(autouse=True)
    def _cloud(self, here):
        self.cloud = here

    def troubles(self, backend):
        yield from super().troubles(backend)
        yield from refusals(self.cloud, "compute.googleapis.com")

    @pytest.fixture
    def settings(self, settings):
        return settings

    @pytest.fixture
    def backend(self, backend):
        return backend

    @pytest.fixture
    def order(self, order):
        return order


class TestLateListings(BackendSuite):
    """The same contract where listings are late by up to half a minute, on a clock of ours."""

    SPEED = 30.0

    def broken(self, error):
        return no_requests(error)

    def machine(self, lease):
        return f"{lease.lease_id}-w0-0"

    @pytest.fixture(scope="class")
    def late(self, tmp_path_factory):
        with GcpEmulator(tmp_path_factory.mktemp("late"), speed=self.SPEED) as cloud:
            cloud.physics(listing_lag_s=30.0)
            yield cloud

    @pytest.fixture
    def settings(self, late, monkeypatch):
        for name, value in late.env.items():
            monkeypatch.setenv(name, value)
        return {
            "project": late.project,
            "bucket": f"lab-{uuid.uuid4().hex[:8]}",
            "service_account": late.service_account,
            "listing_lag_s": 30.0,
        }

    @pytest.fixture
    def backend(self, late, settings):
        made = GcpBackend(VirtualClock.of(late, self.SPEED), **settings)
        made.prepare_store(made.store_url())
        return made

    @pytest.fixture
    def order(self, backend):
        return order_of(backend.store_url(), workers=1)

    @pytest.mark.slow
    def test_another_process_needs_only_the_text(self, backend, order, settings):
        """It does not depend on the listing, and starts processes."""
        super().test_another_process_needs_only_the_text(backend, order, settings)
