"""The places where one experiment may rent: one backend, or several in turn.

The contract for several places (``backend: [ssh/den, gcp/prod]``):

- One lease at a time, in one place. Its record names the backend and has all its settings, so
  that a reaper, a teardown and another driver find it without the experiment's file.
- The cheapest place comes first. Places of the same price keep the order of the file.
- A place is checked right before it is rented. One that cannot work now (not reachable, cannot
  reach the mailbox, no right, no quota) is passed over for ``CHECK_AGAIN_S``. One that raises
  ``NoCapacity`` is passed over for ``AGAIN_S``, and what was created there is ended.
- A lease that is lost, or whose backend raises ``NoCapacity`` for it, is replaced in the same
  order. Runs continue from their checkpoints, because the mailbox stays the same.
- A place whose packages are not installed on this machine is left out as long as another one can
  be opened.
- When every place is passed over, ``NoCapacity`` names each with its reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drillyard.backend import (
    Backend,
    Cost,
    Lease,
    ProvidesStore,
    alternatives_of,
    open_backend,
)
from drillyard.backend.settings.experiment import given, settings_of
from drillyard.documents.json_types import JsonObject
from drillyard.errors import NoCapacity, PackagesMissing, UserError
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock

AGAIN_S = 600.0
"""Seconds until a place that had no room is tried again."""
CHECK_AGAIN_S = 60.0
"""Seconds until a place that could not work is checked again; nothing was created there."""


@dataclass(frozen=True)
class Place:
    """One place.

    Attributes:
        name: For people: ``gcp/prod``, or ``azure (Standard_F4s_v2, westeurope)``.
        backend: What rents there.
        spec: The experiment on this backend alone; None where nothing is rented.
        settings: Settings of an order, with references to secrets.
    """

    name: str
    backend: Backend
    spec: ExperimentSpec | None = None
    settings: JsonObject = dataclasses.field(default_factory=dict)

    def owns(self, lease: Lease) -> bool:
        """Whether a lease was rented here with the same settings."""
        return lease.backend == self.backend.kind and lease.order.settings == self.settings


@dataclass
class _PassedOver:
    until: float
    why: str


class Places:
    """The places of one experiment, and which of them were full.

    Args:
        places: In the order of the file; at least one.
        clock: For ``AGAIN_S``.
        lacking: Name -> error of each further place that cannot be opened on this machine.
    """

    def __init__(
        self,
        places: Sequence[Place],
        clock: Clock = SYSTEM,
        lacking: Mapping[str, PackagesMissing] | None = None,
    ) -> None:
        self.all = tuple(places)
        self.lacking = dict(lacking or {})
        self._clock = clock
        self._passed = {
            name: _PassedOver(math.inf, error.message) for name, error in self.lacking.items()
        }
        self._former: dict[str, Backend] = {}
        """Lease -> its backend, where the experiment no longer rents."""

    @classmethod
    def of_spec(cls, spec: ExperimentSpec) -> Places:
        """Opens the backends of an experiment.

        Raises:
            ConfigError, PluginError: The settings of a backend are wrong, or packages of every
                backend are missing.
        """
        places: list[Place] = []
        lacking: dict[str, PackagesMissing] = {}
        for name, there in specs_of(spec):
            try:
                backend = open_backend(there.backend, given(there))
            except PackagesMissing as error:
                lacking[name] = error
                continue
            places.append(Place(name, backend, there, settings_of(there, backend.kind)))
        if not places:
            raise next(iter(lacking.values()))
        return cls(places, lacking=lacking)

    @classmethod
    def only(cls, backend: Backend | Places, spec: ExperimentSpec | None = None) -> Places:
        """Returns the one place of a backend; places stay as they are."""
        if isinstance(backend, Places):
            return backend
        settings = {} if spec is None else settings_of(spec, backend.kind)
        return cls([Place(backend.kind, backend, spec, settings)])

    @classmethod
    def of_leases(cls, leases: Iterable[Lease]) -> Places:
        """Opens the backends of leases from their records; nothing can be rented there."""
        places: list[Place] = []
        for lease in leases:
            if not any(place.owns(lease) for place in places):
                settings = lease.order.settings
                backend = open_backend(lease.backend, settings)
                places.append(Place(lease.backend, backend, None, settings))
        return cls(places)

    @property
    def several(self) -> bool:
        """True if the experiment has more than one place."""
        return len(self.all) + len(self.lacking) > 1

    def place_of(self, lease: Lease) -> Place | None:
        """Returns the place of a lease; None if the experiment no longer rents there."""
        same = [place for place in self.all if place.backend.kind == lease.backend]
        exact = [place for place in same if place.owns(lease)]
        if exact or len(same) == 1:
            return (exact or same)[0]
        return None

    def backend_of(self, lease: Lease) -> Backend:
        """Returns the backend of a lease, also of one in a place that is used no more.

        With other settings, such as another project, a provider would not know the lease.

        Raises:
            UserError: That backend is not installed here, or its settings no longer work.
        """
        place = self.place_of(lease)
        if place is not None and (place.owns(lease) or not lease.order.settings):
            return place.backend
        if lease.lease_id not in self._former:
            opened = open_backend(lease.backend, lease.order.settings)
            self._former[lease.lease_id] = opened
        return self._former[lease.lease_id]

    def prepare_store(self, url: str) -> None:
        """Lets each backend with a store of its own create the mailbox's store.

        Raises:
            UserError: No place can use this store.
            StoreUnavailable: The store does not exist and cannot be created, or is not writable.
        """
        refusals: list[UserError] = []
        for place in self.all:
            if isinstance(place.backend, ProvidesStore):
                try:
                    place.backend.prepare_store(url)
                except UserError as error:
                    refusals.append(error)
                    self.pass_over(place, error.message)
        if len(refusals) == len(self.all):
            raise refusals[0]

    # -- the order ----------------------------------------------------------------------------

    def in_turn(self, price: Callable[[Place], Cost]) -> list[Place]:
        """Returns the places that are not passed over now, cheapest first.

        Args:
            price: Returns the price of an order there; makes no request.
        """
        now = self._clock.monotonic()
        if not self.several:
            return list(self.all)
        return cheapest_first([p for p in self.all if self._free(p, now)], price)

    def elsewhere(self, lease: Lease) -> bool:
        """Returns whether a place other than a lease's own is worth a try now."""
        lease_place, now = self.place_of(lease), self._clock.monotonic()
        return any(place is not lease_place and self._free(place, now) for place in self.all)

    def pass_over(self, place: Place, why: str, again_s: float = AGAIN_S) -> None:
        """Notes that a place has no room, or cannot work, for so many seconds."""
        self._passed[place.name] = _PassedOver(self._clock.monotonic() + again_s, why)

    def full(self) -> NoCapacity:
        """Returns the error for places of which none has room."""
        reasons = "\n".join(f"  {name}: {passed.why}" for name, passed in self._passed.items())
        return NoCapacity(
            f"none of the {len(self._passed)} places has room:\n{reasons}",
            hint="run the same command again later, or add a place to `backend:`",
        )

    def _free(self, place: Place, now: float) -> bool:
        passed = self._passed.get(place.name)
        return passed is None or now >= passed.until


def answering(backend: Backend | Places) -> Callable[[Lease], Backend]:
    """Returns what finds the backend of a lease; a single one answers for all leases."""
    return backend.backend_of if isinstance(backend, Places) else lambda lease: backend


def specs_of(spec: ExperimentSpec) -> Iterator[tuple[str, ExperimentSpec]]:
    """Yields (name of a place, the experiment there alone): its backends with their alternatives.

    Args:
        spec: The experiment.

    Raises:
        ConfigError, PluginError: The settings of a backend are wrong, or there is no such one.
    """
    for text in spec.places:
        place_spec = spec.on_place(text)
        for alternative in alternatives_of(text, given(place_spec), others=len(spec.places) > 1):
            name = f"{text} ({alternative.words})" if alternative.words else text
            yield name, place_spec.on_place(text, alternative.settings)


def cheapest_first(places: Iterable[Place], price: Callable[[Place], Cost]) -> list[Place]:
    """Returns places by price; those without a known price come last.

    Prices in different currencies cannot be compared: the order of the file stays.
    """
    costs = [(place, price(place)) for place in places]
    if len({cost.currency for _, cost in costs if cost.per_hour > 0}) > 1:
        return [place for place, _ in costs]
    return [p for p, _ in sorted(costs, key=lambda one: (bool(one[1].unpriced), one[1].per_hour))]
