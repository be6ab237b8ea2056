"""Plans what ``run`` would rent, create and cost, and what is missing. Creates nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field

from drillyard.backend import Cost, Egress, Order, PricesEgress, ProvidesStore
from drillyard.errors import DrillyardError
from drillyard.findings import Finding, Severity
from drillyard.leases import budget
from drillyard.leases.orders import preview
from drillyard.leases.places import Place, Places, cheapest_first
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs.checkpoints import newest_size
from drillyard.runs.stages import stages_of
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard.spec.stages import is_staged
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
        cost = budget.offer(place.spec, place.backend, order, clock)
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


@dataclass(frozen=True)
class Plan:
    """What an experiment would rent and cost.

    Attributes:
        loaded: The experiment.
        order: What would be ordered; None if the backend's settings are incomplete.
        cost: Its price over ``hours``, and what will be created.
        hours: Longest lifetime of the machines; None without a limit.
        findings: The result of every check.
    """

    loaded: Loaded
    order: Order | None
    cost: Cost | None
    hours: float | None
    findings: list[Finding]
    strict: bool = False
    """Whether warnings prevent the run, too."""
    stages: dict[str, Plan] = field(default_factory=dict)
    """The plans of the stages of a composite, without findings; empty: it has none."""
    offers: list[Offer] = field(default_factory=list)
    """Every place of the experiment, in the order in which they are tried."""
    read_gb: float = 0.0
    """GB of checkpoints that the runs would read to continue in another place."""

    @property
    def possible(self) -> bool:
        """True if nothing prevents the run."""
        bad = {Severity.ERROR, Severity.WARNING} if self.strict else {Severity.ERROR}
        return all(f.severity not in bad for f in self.findings)


def plan(
    loaded: Loaded,
    store: str,
    *,
    offline_ok: bool = False,
    strict: bool = False,
    clock: Clock = SYSTEM,
) -> Plan:
    """Checks everything that ``run`` would do.

    Args:
        loaded: The experiment.
        store: URL of the mailbox's store.
        offline_ok: Accept a tracking server that cannot be reached.
        strict: Treat warnings as errors.
        clock: Clock for the deadline.
    """
    from drillyard.checks.experiment import check
    from drillyard.checks.stages import of_stage

    spec = loaded.spec
    findings = check(loaded, store=store, offline_ok=offline_ok)
    if is_staged(spec):
        each = {
            name: _rented(stage, store, of_stage(findings, name), strict, clock)
            for name, stage in stages_of(loaded).items()
        }
        return Plan(loaded, None, None, spec.budget.max_hours, findings, strict, each)
    return _rented(loaded, store, findings, strict, clock)


def _rented(
    loaded: Loaded, store: str, findings: list[Finding], strict: bool, clock: Clock
) -> Plan:
    """What one experiment would rent."""
    from drillyard.checks.capacity import dropped_in
    from drillyard.errors import UserError

    spec = loaded.spec
    listed: list[Offer] = []
    with contextlib.suppress(UserError):  # the findings report it
        listed = offers(spec, store, dropped_in(findings), clock)
    order, cost = (listed[0].order, listed[0].cost) if listed else (None, None)
    read_gb = checkpoints_gb(spec, store) if any(o.egress for o in listed) else 0.0
    hours = spec.budget.max_hours
    return Plan(loaded, order, cost, hours, findings, strict, offers=listed, read_gb=read_gb)
