"""What only some backends can do, as protocols that ``isinstance`` finds.

A backend has a capability by having its methods; nothing is declared beside them. The driver asks
``isinstance(backend, TendsLeases)`` and goes without where the answer is no, so a backend that has
none of these works, too. ``drillyard.testing.BackendSuite`` tests each capability that it finds.

Every method keeps the contract of ``backend.port``: it is safe to repeat from a new process, and
it raises nothing but errors of ``drillyard.errors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from drillyard.backend.records import Lease
from drillyard.mailbox.status import Cause

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Delays:
    """How slow a provider is: what waiting for it allows on top of its own time limits.

    Attributes:
        setup_s: Seconds that machines may take to be found and to start.
        teardown_s: Seconds that machines take to disappear.
        listing_lag_s: Seconds by which ``leases()`` may lag behind the truth. A teardown is
            confirmed when the listing was empty for twice this time.
    """

    setup_s: float = 0.0
    teardown_s: float = 0.0
    listing_lag_s: float = 0.0


@runtime_checkable
class HasDelays(Protocol):
    """Its machines do not come, or go, at once."""

    def delays(self) -> Delays:
        """How long to wait for it; from its settings, asks nobody."""


@runtime_checkable
class TendsLeases(Protocol):
    """Its machines come one by one and may have to be replaced."""

    def tend(self, lease: Lease, workers: int) -> int:
        """Keep a lease at its strength; called again and again while work is left.

        One step: what a machine that was lost, or never came, makes necessary. May take as long
        as a few calls do.

        Args:
            lease: Which.
            workers: How many are of use now.

        Returns:
            How many can be expected; fewer than asked for when there is no room for more.

        Raises:
            NoCapacity: There are none, or too few, and the search is over.
            InfrastructureError: It could not be found out; the next call tries again.
        """


@runtime_checkable
class ProvidesStore(Protocol):
    """It has a place for mailboxes; its machines cannot reach every store."""

    def store_url(self) -> str:
        """The store that is used where the user names none.

        Raises:
            InfrastructureError, UserError: It could not be found out.
        """

    def prepare_store(self, url: str) -> None:
        """Make the place of a mailbox unless it is there, and try it once.

        Args:
            url: Of the store, also one that the user has named.

        Raises:
            UserError: A store that no machine of this backend reaches.
            StoreUnavailable: It is not there and cannot be made, or cannot be written to.
        """


@runtime_checkable
class HasClock(Protocol):
    """The provider tells the time, by which leases are judged instead of by this machine's."""

    def now(self) -> float:
        """Epoch seconds.

        Raises:
            InfrastructureError: Nobody answered.
        """


@runtime_checkable
class HasConsole(Protocol):
    """The provider has a page of its own for people."""

    def console(self, lease: Lease) -> str:
        """The https address of the page that shows a lease's machines; asks nobody."""


@runtime_checkable
class ProtectsLeases(Protocol):
    """Its machines can carry a mark: a reaper that cannot read the mailbox spares them by it."""

    def protect(self, lease: Lease, until: float | None) -> None:
        """Mark the machines of a lease; ``leases()`` then tells ``provider["protected_until"]``.

        Of a provider whose listings are late, a machine that is not listed yet is not marked.

        Args:
            lease: Which; one that is gone is no error.
            until: Epoch seconds; None takes the mark away.
        """


@runtime_checkable
class ExplainsLosses(Protocol):
    """Its provider says why a machine is gone: preemptions have a larger budget of attempts."""

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        """What ended the work on a ticket, whose machine is gone.

        ``PREEMPTION`` where the provider took the machine back, else ``INFRASTRUCTURE``.

        Args:
            lease: Of the machine.
            ticket_id: What it worked on.

        Raises:
            InfrastructureError: Nobody answered.
        """


@runtime_checkable
class SimulatesPreemption(Protocol):
    """Its machines can be taken away, and it can let that happen on purpose."""

    def simulate_preemption(self, lease: Lease, machine: str) -> None:
        """Let the provider take a machine away as it would by itself; returns at once.

        Args:
            lease: Which.
            machine: Its name: the host name that its worker reports.

        Raises:
            NotFound: The lease has no such machine.
        """


@runtime_checkable
class NeedsExtra(Protocol):
    """It needs packages that a plain installation of drillyard lacks.

    Asked of the class: without the packages no instance can be made. A plug-in's packages are
    requirements of the plug-in, so it does not need this.
    """

    @classmethod
    def extra(cls) -> str:
        """The extra of drillyard that brings the packages: ``gcp`` of ``drillyard[gcp]``."""


@runtime_checkable
class HasSettings(Protocol):
    """It has settings. Asked of the class: they are looked up before an instance is made."""

    Config: type[BaseModel]
    """Their model, each field with a description; see ``backend.settings``."""


def delays_of(backend: object) -> Delays:
    """The delays of a backend; none where it declares none."""
    return backend.delays() if isinstance(backend, HasDelays) else Delays()


CAPABILITIES: tuple[type, ...] = (
    HasDelays,
    TendsLeases,
    ProvidesStore,
    HasClock,
    HasConsole,
    ProtectsLeases,
    ExplainsLosses,
    SimulatesPreemption,
    NeedsExtra,
    HasSettings,
)
