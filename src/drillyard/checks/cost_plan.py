"""What ``run`` would rent, create and pay, and what is missing for it. Nothing is created."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.backend import Cost, Order, open_backend
from drillyard.findings import Finding, Severity
from drillyard.spec.load import Loaded
from drillyard.system.clock import SYSTEM, Clock


@dataclass(frozen=True)
class Plan:
    """What an experiment would take.

    Attributes:
        loaded: The experiment.
        order: What would be asked for; None where the backend's settings are not complete.
        cost: Its price over ``hours``, and what will be created.
        hours: Longest life of the machines; None without a limit.
        findings: Everything that was looked at.
    """

    loaded: Loaded
    order: Order | None
    cost: Cost | None
    hours: float | None
    findings: list[Finding]
    strict: bool = False
    """Warnings stand in the way, too."""

    @property
    def possible(self) -> bool:
        """True when nothing stands in the way."""
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
    """Look at everything that ``run`` would do.

    Args:
        loaded: The experiment.
        store: URL of the mailbox's store.
        offline_ok: A tracking server that cannot be reached is no error.
        strict: Warnings count as errors.
        clock: For the deadline.
    """
    from drillyard.checks.experiment import check
    from drillyard.errors import UserError
    from drillyard.leases import budget
    from drillyard.leases.orders import preview

    spec = loaded.spec
    findings = check(loaded, store=store, offline_ok=offline_ok)
    order, cost = None, None
    try:
        given = spec.backends.get(spec.backend.partition("/")[0], {})
        backend = open_backend(spec.backend, dict(given))
        order = preview(spec, store, clock)
        cost = budget.offer(spec, backend, order)
    except UserError:
        pass  # said among the findings
    return Plan(loaded, order, cost, spec.budget.max_hours, findings, strict)
