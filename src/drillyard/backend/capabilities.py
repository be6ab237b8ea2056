"""What only some backends can do, as protocols that ``isinstance`` checks.

A backend has a capability if it has the methods; it declares nothing else. The driver checks
``isinstance(backend, TendsLeases)`` and does without if the answer is no, so a backend with none
of these works, too. ``drillyard.testing.BackendSuite`` tests each capability that a backend has.

Every method keeps the contract of ``backend.port``: it is safe to repeat from a new process, and
it raises only errors of ``drillyard.errors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from drillyard.backend.hardware import Hardware, MachineList, Packing
from drillyard.backend.records import Lease
from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.status import Cause

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Delays:
    """How slow a provider is: the time to add to the limits of whatever waits for it.

    Attributes:
        setup_s: Seconds that the provider may need to find and start machines.
        teardown_s: Seconds that machines take to disappear.
        listing_lag_s: Seconds by which ``leases()`` may lag behind the truth. A teardown is
            confirmed when the listing was empty for twice this time.
    """

    setup_s: float = 0.0
    teardown_s: float = 0.0
    listing_lag_s: float = 0.0


@runtime_checkable
class HasDelays(Protocol):
    """Its machines take time to start or to disappear."""

    def delays(self) -> Delays:
        """Returns the delays, from the settings alone; makes no request."""


@runtime_checkable
class TendsLeases(Protocol):
    """Its machines start one by one and may have to be replaced."""

    def tend(self, lease: Lease, workers: int) -> int:
        """Keeps a lease at full strength. The driver calls it repeatedly while work is left.

        One call takes one step: it replaces machines that were lost or never started. It may take
        as long as a few requests do.

        Args:
            lease: The lease.
            workers: Number of workers that are useful now.

        Returns:
            Number of workers to expect; fewer than requested if there is no capacity for more.

        Raises:
            NoCapacity: There is no capacity, or too little, and the search has ended.
            InfrastructureError: The state is unknown; the next call tries again.
        """


@runtime_checkable
class ProvidesStore(Protocol):
    """It provides a store for mailboxes; its machines cannot reach every store."""

    def store_url(self) -> str:
        """Returns the store to use if the user names none.

        Raises:
            InfrastructureError, UserError: The store is unknown.
        """

    def prepare_store(self, url: str) -> None:
        """Creates the store unless it exists, and tries it once.

        Args:
            url: URL of the store; also of one that the user named.

        Raises:
            UserError: No machine of this backend can reach the store.
            StoreUnavailable: The store does not exist and cannot be created, or is not writable.
        """


@dataclass(frozen=True, slots=True)
class Egress:
    """The price of data that leaves a provider's network.

    Attributes:
        per_gb: Price of a GB (2**30 bytes).
        currency: Its currency.
        prices_of: Date of the price.
    """

    per_gb: float
    currency: str
    prices_of: str


@runtime_checkable
class PricesEgress(Protocol):
    """Reading its store from outside its provider's network costs money."""

    def egress(self) -> Egress:
        """Returns the price, for machines of another backend; makes no request."""


@runtime_checkable
class FindsLeases(Protocol):
    """It can look for one lease with fewer requests than ``leases()`` takes."""

    def listed(self, lease: Lease) -> bool:
        """Returns whether ``leases()`` would yield this lease. A teardown asks repeatedly.

        Raises:
            InfrastructureError: The provider does not answer, or not completely.
        """


@runtime_checkable
class HasClock(Protocol):
    """The provider has a clock. Leases are judged by it instead of by this machine's clock."""

    def now(self) -> float:
        """Returns the provider's time in epoch seconds.

        Raises:
            InfrastructureError: The provider does not answer.
        """


@runtime_checkable
class HasConsole(Protocol):
    """The provider has a web page for its machines."""

    def console(self, lease: Lease) -> str:
        """Returns the https address of a lease's page at the provider; makes no request."""


@runtime_checkable
class ProtectsLeases(Protocol):
    """Its machines can carry a mark that protects them from a reaper without the mailbox."""

    def protect(self, lease: Lease, until: float | None) -> None:
        """Marks the machines of a lease; ``leases()`` then has ``provider["protected_until"]``.

        If a provider's listings lag, a machine that is not listed yet is not marked.

        Args:
            lease: The lease. A lease that no longer exists is not an error.
            until: Epoch seconds; None removes the mark.
        """


@runtime_checkable
class CanBeIdle(Protocol):
    """Its leases can be there without a machine, as clusters are that start one for each job."""

    def idle(self, lease: Lease) -> bool:
        """Returns whether no machine of a lease is up, so that it costs nothing now.

        Args:
            lease: The lease; one that no longer exists is idle.

        Raises:
            InfrastructureError: The provider does not answer.
        """


@runtime_checkable
class ExplainsLosses(Protocol):
    """Its provider reports why a machine is gone; preemptions have a larger budget of attempts."""

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        """Returns what ended the work on a ticket whose machine is gone.

        ``PREEMPTION`` if the provider took the machine back, else ``INFRASTRUCTURE``.

        Args:
            lease: The machine's lease.
            ticket_id: The ticket that the machine worked on.

        Raises:
            InfrastructureError: The provider does not answer.
        """


@runtime_checkable
class ExplainsWaits(Protocol):
    """Its provider says why machines do not come, or do not end."""

    def reasons(self, lease: Lease) -> Sequence[str]:
        """Returns what the provider says about machines of a lease that are waited for.

        drillyard asks while machines start and while they end, and shows each reason once.

        Args:
            lease: The lease; one that is not known has no reasons.

        Returns:
            Sentences with the provider's own words and with what they are about; empty if it says
            nothing.

        Raises:
            InfrastructureError: The provider does not answer.
        """


@runtime_checkable
class SimulatesPreemption(Protocol):
    """Its machines can be preempted, and it can simulate that."""

    def simulate_preemption(self, lease: Lease, machine: str) -> None:
        """Lets the provider preempt a machine as it would by itself; returns at once.

        Args:
            lease: The lease.
            machine: Host name of the machine, as its worker reports it.

        Raises:
            NotFound: The lease has no such machine.
        """


@runtime_checkable
class NeedsExtra(Protocol):
    """It needs packages that a plain installation of drillyard lacks.

    The class answers, because no instance can be made without the packages. A plug-in's packages
    are requirements of the plug-in, so a plug-in does not need this.
    """

    @classmethod
    def extra(cls) -> str:
        """Returns the extra of drillyard that has the packages: ``gcp`` of ``drillyard[gcp]``."""


@runtime_checkable
class HasSettings(Protocol):
    """It has settings. The class has them: they are looked up before an instance is made."""

    Config: type[BaseModel]
    """Model of the settings; each field has a description. See ``backend.settings``."""


@runtime_checkable
class HasMachineTypes(Protocol):
    """It rents machine types from a list, so that an experiment can say what it needs instead.

    The class answers, because the choice becomes settings, before an instance is made.
    """

    @classmethod
    def machine_types(cls) -> MachineList:
        """Returns the types with their prices, from dated tables; makes no request.

        Raises:
            ConfigError: A price list of the user's is not readable.
        """

    @classmethod
    def choose_machines(
        cls, need: Hardware, given: JsonObject, resolved: JsonObject
    ) -> JsonObject:
        """Returns the settings that rent what is needed; makes no request.

        A machine type in ``given`` is the user's own choice: it stays, and is only compared.

        Args:
            need: What one run needs.
            given: The settings that the experiment itself contains.
            resolved: All settings, from every source.

        Raises:
            ConfigError: No type fits, or the given ones do not. It names the nearest types.
        """


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several kinds of machines that an experiment can use.

    Attributes:
        words: What is special about it, for people: ``Standard_F4s_v2, westeurope``; or empty.
        settings: The settings that choose it.
    """

    words: str
    settings: JsonObject


@runtime_checkable
class HasAlternatives(Protocol):
    """Its settings can list machines of which a lease has one kind, such as sizes and regions.

    The core rents the cheapest and, on ``NoCapacity``, the next one. A backend that moves on by
    itself inside a lease does not need this. The class answers, as for machine types.
    """

    @classmethod
    def alternatives(cls, resolved: JsonObject, others: bool) -> list[Alternative]:
        """Returns one alternative for each kind, at least one; makes no request.

        Args:
            resolved: All settings, from every source; some may be missing or wrong.
            others: True if the experiment names other backends, which need not wait.
        """


@runtime_checkable
class PacksRuns(Protocol):
    """Several runs can share one of its machines. The class answers, as for machine types."""

    @classmethod
    def packing(cls, resolved: JsonObject) -> Packing:
        """Returns how many runs share a machine, and which machines; makes no request.

        Args:
            resolved: All settings, from every source.
        """


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """A price list that a provider answered with.

    Attributes:
        table: The list, in the form that the backend reads.
        prices: Number of prices in it.
        missing: Machine types for which the provider listed no price.
    """

    table: JsonObject
    prices: int
    missing: tuple[str, ...] = ()


@runtime_checkable
class RefreshesPrices(Protocol):
    """Its provider publishes list prices."""

    @classmethod
    def fetch_prices(cls, key: str | None = None) -> PriceUpdate:
        """Asks the provider for its list prices; writes nothing.

        Args:
            key: The API key, if the provider wants one.

        Raises:
            ConfigError: The provider wants a key, or rejects this one.
            ControlPlaneError: The provider does not answer.
        """


def delays_of(backend: object) -> Delays:
    """Returns the delays of a backend; none if it declares none."""
    return backend.delays() if isinstance(backend, HasDelays) else Delays()


CAPABILITIES: tuple[type, ...] = (
    HasDelays,
    TendsLeases,
    ProvidesStore,
    PricesEgress,
    FindsLeases,
    HasClock,
    HasConsole,
    ProtectsLeases,
    CanBeIdle,
    ExplainsLosses,
    ExplainsWaits,
    SimulatesPreemption,
    NeedsExtra,
    HasSettings,
    HasMachineTypes,
    HasAlternatives,
    PacksRuns,
    RefreshesPrices,
)
