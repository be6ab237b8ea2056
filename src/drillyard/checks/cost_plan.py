"""Plans what ``run`` would rent, create and cost, and what is missing. Creates nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from drillyard.backend import Cost, Order
from drillyard.checks.offers import Offer, checkpoints_gb, offers
from drillyard.findings import Finding, Severity
from drillyard.runs.stages import stages_of
from drillyard.spec.load import Loaded
from drillyard.spec.stages import is_staged
from drillyard.system.clock import SYSTEM, Clock


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
