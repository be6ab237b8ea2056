"""The contract of each capability, tested where a backend has it."""

from __future__ import annotations

import math
from functools import partial
from importlib.metadata import metadata
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from drillyard.backend import (
    Backend,
    CanBeIdle,
    ExplainsLosses,
    ExplainsWaits,
    FindsLeases,
    HasAlternatives,
    HasClock,
    HasConsole,
    HasDelays,
    HasMachineTypes,
    HasSettings,
    Lease,
    Liveness,
    NeedsExtra,
    Order,
    PricesEgress,
    ProtectsLeases,
    ProvidesStore,
    SimulatesPreemption,
    TendsLeases,
)
from drillyard.backend.hardware import Hardware
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, NotFound
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.status import Cause
from drillyard.system.optional_packages import missing
from drillyard.testing.backend_base import BackendTests, until

_2020 = 1577836800.0
_UNTIL = 4_000_000_000.0


def lacks(capability: type) -> NoReturn:
    """Skip a test of what the backend cannot do."""
    pytest.skip(f"this backend does not have the capability {capability.__name__}")


class CapabilityTests(BackendTests):
    """A test for each capability; those that the backend does not have are skipped."""

    def machine(self, lease: Lease) -> str:
        """A machine of a lease: override where machines have other names than their workers."""
        mailbox = Mailbox(open_store(lease.order.store_url), lease.order.experiment)

        def hosts() -> list[str]:
            return [worker.host for worker in mailbox.workers() if worker.lease == lease.lease_id]

        until(hosts, self.patience_s, "a worker")
        return hosts()[0]

    def test_delays_are_seconds(self, backend: Backend) -> None:
        """None of them is negative or without end."""
        if not isinstance(backend, HasDelays):
            lacks(HasDelays)
        delays = backend.delays()
        for seconds in (delays.setup_s, delays.teardown_s, delays.listing_lag_s):
            assert seconds >= 0 and math.isfinite(seconds)

    def test_a_tended_lease_comes_to_its_strength(self, backend: Backend, order: Order) -> None:
        """And stays there: what is complete is not added to."""
        if not isinstance(backend, TendsLeases):
            lacks(TendsLeases)
        lease = backend.provision(order)

        def strength() -> int:
            ready = backend.tend(lease, order.workers)
            assert 0 <= ready <= order.workers
            return ready

        until(lambda: strength() == order.workers, self.patience_s, "full strength")
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")
        assert strength() == order.workers
        self.found(backend, order)

    def test_its_own_store_can_be_prepared_twice_and_used(self, backend: Backend) -> None:
        """What is written there is read."""
        if not isinstance(backend, ProvidesStore):
            lacks(ProvidesStore)
        url = backend.store_url()
        for _ in range(2):
            backend.prepare_store(url)
        store = open_store(url)
        store.put("conformance.txt", b"here")
        try:
            assert store.get("conformance.txt") == b"here"
        finally:
            store.delete("conformance.txt")

    def test_its_clock_goes_forward(self, backend: Backend) -> None:
        """Epoch seconds of this age; about a second of jitter is a provider's right."""
        if not isinstance(backend, HasClock):
            lacks(HasClock)
        before, after = backend.now(), backend.now()
        assert before > _2020 and after >= before - 2.0

    def test_its_console_is_a_page(self, backend: Backend, order: Order) -> None:
        """Also of a lease of which only the intent is known."""
        if not isinstance(backend, HasConsole):
            lacks(HasConsole)
        lease = Lease(lease_id=order.lease_id, backend=backend.kind, order=order, created_at=0.0)
        page = backend.console(lease)
        assert urlsplit(page).scheme == "https" and urlsplit(page).hostname
        assert page == page.strip() and " " not in page

    def test_protection_is_listed_and_taken_away(self, backend: Backend, order: Order) -> None:
        """Marking twice is the same as once. A lease that is gone is not an error."""
        if not isinstance(backend, ProtectsLeases):
            lacks(ProtectsLeases)
        lease = backend.provision(order)
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")

        def listed_with(moment: float | None) -> bool:
            backend.protect(lease, moment)  # each time: a machine may not have been listed yet
            lease_again = self.found(backend, order)
            marked = lease_again.provider.get("protected_until") == moment
            # One listing has both; the next may be an older one, without what the machine says.
            return marked and lease_again.order.experiment == order.experiment

        for moment in (_UNTIL, None):
            until(partial(listed_with, moment), self.patience_s, f"the mark {moment}")
        backend.teardown(lease)
        self.gone(backend, order)
        backend.protect(lease, _UNTIL)

    def test_one_lease_is_found_as_in_the_listing(self, backend: Backend, order: Order) -> None:
        """A teardown that asks for its own lease must see all that the listing of all shows."""
        if not isinstance(backend, FindsLeases):
            lacks(FindsLeases)
        lease = backend.provision(order)
        self.found(backend, order)
        assert backend.listed(lease)
        backend.teardown(lease)
        self.gone(backend, order)
        until(lambda: not backend.listed(lease), self.patience_s, "its end")

    def test_a_loss_has_one_of_two_causes(self, backend: Backend, order: Order) -> None:
        """What never ran was not taken back, however often that is asked."""
        if not isinstance(backend, ExplainsLosses):
            lacks(ExplainsLosses)
        lease = backend.provision(order)
        for _ in range(2):
            assert backend.lost_to(lease, "t0001-s1.train") is Cause.INFRASTRUCTURE

    def test_a_lease_that_was_ended_has_no_reasons(self, backend: Backend, order: Order) -> None:
        """Nor has one that is up: nothing is waited for."""
        if not isinstance(backend, ExplainsWaits):
            lacks(ExplainsWaits)
        lease = backend.provision(order)
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")
        assert list(backend.reasons(lease)) == []
        backend.teardown(lease)
        self.gone(backend, order)
        until(lambda: not backend.reasons(lease), self.patience_s, "its end")

    def test_what_was_ended_has_no_machine(self, backend: Backend, order: Order) -> None:
        """A lease that no longer exists is idle."""
        if not isinstance(backend, CanBeIdle):
            lacks(CanBeIdle)
        lease = backend.provision(order)
        backend.teardown(lease)
        until(lambda: backend.idle(lease), self.patience_s, "its last machine to end")

    def test_a_machine_can_be_taken_away(self, backend: Backend, order: Order) -> None:
        """By its name; one that is not there is named as such."""
        if not isinstance(backend, SimulatesPreemption):
            lacks(SimulatesPreemption)
        lease = backend.provision(order)
        until(lambda: backend.probe(lease) is Liveness.ALIVE, self.patience_s, "ALIVE")
        with pytest.raises(NotFound):
            backend.simulate_preemption(lease, "no-such-machine")
        backend.simulate_preemption(lease, self.machine(lease))
        until(lambda: backend.probe(lease) is not Liveness.ALIVE, self.patience_s, "its end")

    def test_its_extra_brings_its_packages(self, backend: Backend) -> None:
        """One that drillyard has; without the packages this test could not run."""
        if not isinstance(backend, NeedsExtra):
            lacks(NeedsExtra)
        extra = backend.extra()
        assert extra in (metadata("drillyard").get_all("Provides-Extra") or [])
        assert missing(extra) == []

    def test_machines_can_be_asked_for(self, backend: Backend) -> None:
        """Each listed type is chosen for what it has, and what no type has is refused."""
        if not isinstance(backend, HasMachineTypes):
            lacks(HasMachineTypes)
        listed = backend.machine_types()
        assert listed.types and listed.prices_of
        for kind in listed.types:
            need = Hardware(kind.gpu, kind.gpus, kind.cpus, kind.memory_gb, True)
            settings = backend.choose_machines(need, {}, {})
            assert settings == backend.choose_machines(need, {}, {})
        with pytest.raises(ConfigError) as error:
            backend.choose_machines(Hardware(cpus=1_000_000), {}, {})
        assert error.value.field and error.value.hint

    def test_a_list_of_machines_has_alternatives(
        self, backend: Backend, settings: JsonObject
    ) -> None:
        """At least one; each makes a backend, and has no further alternatives."""
        if not isinstance(backend, HasAlternatives):
            lacks(HasAlternatives)
        for others in (False, True):
            choices = backend.alternatives(dict(settings), others)
            assert choices == backend.alternatives(dict(settings), others)
            assert len({choice.words for choice in choices}) == len(choices) >= 1
            for choice in choices:
                chosen = {**settings, **choice.settings}
                assert type(backend)(**chosen).kind == backend.kind
                assert len(backend.alternatives(chosen, others)) == 1

    def test_egress_has_a_price_and_a_date(self, backend: Backend) -> None:
        """It is asked without a request, for `plan`."""
        if not isinstance(backend, PricesEgress):
            lacks(PricesEgress)
        egress = backend.egress()
        assert egress.per_gb >= 0 and egress.currency and egress.prices_of

    def test_each_setting_is_described(self, backend: Backend) -> None:
        """``drillyard configure`` asks for it with these words."""
        if not isinstance(backend, HasSettings):
            lacks(HasSettings)
        fields = backend.Config.model_fields
        assert [name for name, field in fields.items() if not field.description] == []
