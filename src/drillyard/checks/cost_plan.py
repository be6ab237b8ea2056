"""Plans what ``run`` would rent, create and cost, and what is missing. Creates nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from drillyard.backend import Cost, Order, open_backend
from drillyard.backend.settings.experiment import given
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

    spec = loaded.spec
    findings = check(loaded, store=store, offline_ok=offline_ok)
    if is_staged(spec):
        each = {
            name: _rented(stage, store, [], strict, clock)
            for name, stage in stages_of(loaded).items()
        }
        return Plan(loaded, None, None, spec.budget.max_hours, findings, strict, each)
    return _rented(loaded, store, findings, strict, clock)


def _rented(
    loaded: Loaded, store: str, findings: list[Finding], strict: bool, clock: Clock
) -> Plan:
    """What one experiment would rent."""
    from drillyard.errors import UserError
    from drillyard.leases import budget
    from drillyard.leases.orders import preview

    spec = loaded.spec
    order, cost = None, None
    try:
        backend = open_backend(spec.backend, given(spec))
        order = preview(spec, store, clock)
        cost = budget.offer(spec, backend, order)
    except UserError:
        pass  # the findings report it
    return Plan(loaded, order, cost, spec.budget.max_hours, findings, strict)
