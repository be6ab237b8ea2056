"""What each place of an experiment would cost, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from drillyard.backend import Cost, Egress, Order, PricesEgress, ProvidesStore
from drillyard.errors import DrillyardError
from drillyard.leases import budget
from drillyard.leases.orders import preview
from drillyard.leases.places import Place, Places, cheapest_first
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs.checkpoints import newest_size
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock

GB = 2**30


@dataclass(frozen=True)
class Offer:
    """What one place would cost.

    Attributes:
        place: Its name: ``gcp/prod``.
        order: What would be rented; None if the backend cannot be opened on this machine.
        cost: The price over the longest lifetime.
        egress: The price of reading the mailbox from there; None if it is free.
        dropped: Why the place is not used now; empty if it is.
    """

    place: str
    order: Order | None
    cost: Cost
    egress: Egress | None = None
    dropped: str = ""


def offers(
    spec: ExperimentSpec, store: str, dropped: dict[str, str], clock: Clock = SYSTEM
) -> list[Offer]:
    """Returns the offers of all places: those in use in their order, then the others.

    Args:
        spec: The experiment.
        store: URL of the mailbox's store.
        dropped: Name of a place -> why it is not used.
        clock: Clock for the deadline.

    Raises:
        UserError: The settings of a backend are wrong.
    """
    listed = Places.of_spec(spec)
    places = listed.all
    by_place: dict[str, Offer] = {}
    for place in places:
        assert place.spec is not None
        order = preview(place.spec, store, clock)
        cost = budget.offer(place.spec, place.backend, order)
        outside = egress_of(place, places, store)
        by_place[place.name] = Offer(place.name, order, cost, outside, dropped.get(place.name, ""))
    used = [p for p in places if p.name not in dropped]
    ordered = cheapest_first(used, lambda p: by_place[p.name].cost) if len(places) > 1 else used
    return [
        *(by_place[p.name] for p in (*ordered, *(p for p in places if p.name in dropped))),
        *(
            Offer(name, None, Cost(unpriced=[name]), dropped=error.message)
            for name, error in listed.lacking.items()
        ),
    ]


def egress_of(place: Place, places: Collection[Place], store: str) -> Egress | None:
    """Returns the price of reading the mailbox from a place; None inside the store's network.

    Args:
        place: Where the machines are.
        places: All places; one of them may own the store.
        store: URL of the mailbox's store.
    """
    scheme = store.partition("://")[0]
    for owner in places:
        backend = owner.backend
        if isinstance(backend, ProvidesStore) and isinstance(backend, PricesEgress):
            try:
                url = backend.store_url()
            except DrillyardError:
                continue
            if url.partition("://")[0] == scheme:
                same = place.backend.kind == backend.kind
                return None if same else backend.egress()
    return None


def checkpoints_gb(spec: ExperimentSpec, store: str) -> float:
    """Returns the size of the newest checkpoints: what all runs read to continue elsewhere.

    Args:
        spec: The experiment.
        store: URL of the mailbox's store.

    Returns:
        Size in GB; 0 if nothing has begun, or the store does not answer.
    """
    try:
        return newest_size(Mailbox(open_store(store), spec.name)) / GB
    except DrillyardError:
        return 0.0
