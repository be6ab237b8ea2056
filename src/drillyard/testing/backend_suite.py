"""The contract of ``Backend``, as tests.

Use it from a plug-in's tests::

    from drillyard.testing.backend_suite import BackendSuite

    class TestMyBackend(BackendSuite):
        @pytest.fixture
        def settings(self): ...      # what the backend's ``Config`` takes, as JSON
        @pytest.fixture
        def backend(self, settings): ...
        @pytest.fixture
        def order(self): ...         # of an experiment without tickets, in a store of its own
        def broken(self, error): ... # where the provider is not reached by sockets and files

Each capability that the backend has (``backend.capabilities``) is tested as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from drillyard.backend import Backend, Lease, Liveness, Order, Trait
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError
from drillyard.findings import Finding, Severity
from drillyard.testing.backend_base import until
from drillyard.testing.backend_capabilities import CapabilityTests
from drillyard.testing.backend_troubles import TroubleTests

_PROGRAM = """
import json, sys, time
from drillyard.backend import Lease, Liveness, Order, open_backend
verb, kind, settings, text = sys.argv[1:]
backend = open_backend(kind, json.loads(settings))
if verb == "provision":
    sys.stdout.write(backend.provision(Order.from_bytes(text.encode())).model_dump_json())
else:
    lease = Lease.from_bytes(text.encode())
    # A provider may answer UNKNOWN once, but not forever.
    while backend.probe(lease) is not Liveness.ALIVE:
        time.sleep(0.05)
    backend.teardown(lease)
"""


class BackendSuite(CapabilityTests, TroubleTests):
    """Inherit, and supply the fixtures ``settings``, ``backend`` and ``order``."""

    def elsewhere(self, verb: str, backend: Backend, settings: JsonObject, text: str) -> str:
        """Run a verb in a new process that gets only JSON."""
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, verb, backend.kind, json.dumps(settings), text],
            capture_output=True,
            text=True,
            timeout=self.patience_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_check_changes_nothing(self, backend: Backend, order: Order) -> None:
        """Findings have a subject and a message, and a check rents nothing."""
        for findings in (backend.check(), backend.check(order)):
            assert all(isinstance(f, Finding) and f.subject and f.message for f in findings)
            assert all(f.fix for f in findings if f.severity is Severity.ERROR)
        assert self.listed(backend, order) == []

    def test_provision_returns_at_once_and_is_listed(self, backend: Backend, order: Order) -> None:
        """A lease has the order's id, comes to life and is listed."""
        before = time.monotonic()
        lease = backend.provision(order)
        assert time.monotonic() - before < self.at_once_s
        assert (lease.lease_id, lease.backend, lease.order) == (
            order.lease_id,
            backend.kind,
            order,
        )
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")
        assert self.found(backend, order).lease_id == order.lease_id

    def test_the_same_order_gives_the_same_lease(self, backend: Backend, order: Order) -> None:
        """Also for callers at the same time."""
        with ThreadPoolExecutor(4) as threads:
            leases = list(threads.map(lambda _: backend.provision(order), range(4)))
        assert all(lease.provider == leases[0].provider for lease in leases)
        self.found(backend, order)

    def test_another_process_needs_only_the_text(
        self, backend: Backend, order: Order, settings: JsonObject
    ) -> None:
        """A new process adopts, probes and tears down from JSON alone."""
        lease = backend.provision(order)
        assert Lease.from_bytes(lease.to_bytes()) == lease
        text = self.elsewhere("provision", backend, settings, order.model_dump_json())
        assert Lease.from_bytes(text.encode()).provider == lease.provider
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")
        self.elsewhere("see alive and tear down", backend, settings, lease.model_dump_json())
        self.gone(backend, order)
        # Where listings lag, a machine that is missing is believed to be there at first.
        until(lambda: backend.probe(lease) is Liveness.GONE, self.patience_s, "GONE")

    def test_teardown_twice(self, backend: Backend, order: Order) -> None:
        """A lease that is gone, or never existed, is success."""
        lease = backend.provision(order)
        backend.teardown(lease)
        self.gone(backend, order)
        backend.teardown(lease)
        assert backend.probe(lease) is Liveness.GONE
        never = lease.model_copy(update={"lease_id": "dy-ffffffffff"})
        backend.teardown(never)

    def test_a_listed_lease_can_be_torn_down(self, backend: Backend, order: Order) -> None:
        """As the reaper does, which has only the listing."""
        backend.provision(order)
        backend.teardown(self.found(backend, order))
        self.gone(backend, order)

    def test_after_teardown_the_same_order_rents_again(
        self, backend: Backend, order: Order
    ) -> None:
        """A lost lease can be rented again under its name."""
        first = backend.provision(order)
        backend.teardown(first)
        self.gone(backend, order)
        second = backend.provision(order)
        until(lambda: backend.probe(second) is Liveness.ALIVE, self.patience_s, "ALIVE")

    def test_pulling_workers_are_not_pushed_to(self, backend: Backend, order: Order) -> None:
        """``launch`` returns None where workers pull; cancelling is idempotent."""
        lease = backend.provision(order)
        if Trait.PULLS in backend.traits:
            assert backend.launch(lease, "t0001-s1.train") is None
        backend.cancel(lease, "t0001-s1.train")
        backend.cancel(lease, "t0001-s1.train")

    def test_logs_are_lines(self, backend: Backend, order: Order) -> None:
        """The provider's log, from any line on."""
        lease = backend.provision(order)
        until(lambda: list(backend.logs(lease, None)), self.patience_s, "a line of log")
        lines = list(backend.logs(lease, None))
        assert list(backend.logs(lease, None, since=len(lines) + 1000)) == []
        assert all("\n" not in line for line in lines)

    def test_estimate(self, backend: Backend, order: Order) -> None:
        """A price that is not negative, with the date of its list if it is not free."""
        cost = backend.estimate(order)
        assert cost.per_hour >= 0 and cost.total >= 0
        assert cost.prices_of or Trait.PAID not in backend.traits

    def test_unknown_settings_are_refused(self, backend: Backend) -> None:
        """By name, with what is allowed."""
        factory: Callable[..., Backend] = type(backend)
        with pytest.raises(ConfigError) as error:
            factory(no_such_setting=1)
        assert "no_such_setting" in str(error.value)
        assert error.value.hint
