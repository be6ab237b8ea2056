"""Checks the capacity that a run would rent: its budget, its hardware, and the backend."""

from __future__ import annotations

from dataclasses import replace

from drillyard.backend import open_backend
from drillyard.backend.settings.experiment import given, unchecked
from drillyard.checks.refusal import as_finding
from drillyard.findings import Finding, Severity
from drillyard.leases import budget
from drillyard.leases.orders import preview
from drillyard.spec.load import Loaded


def capacity(loaded: Loaded, store: str) -> list[Finding]:
    """Returns what speaks for and against the order that ``run`` would place.

    Args:
        loaded: The experiment.
        store: URL of the mailbox's store.

    Raises:
        UserError: The settings are incomplete, or no machine type fits.
    """
    spec = loaded.spec
    findings = [as_finding(loaded.locate(error), "budget") for error in budget.missing(spec)]
    kind = spec.backend.partition("/")[0]
    if names := unchecked(spec):
        fields = ", ".join(f"resources.{name}" for name in names)
        note = f"{fields}: not looked at, machines of {kind!r} are used as they are"
        findings.append(Finding(Severity.OK, "resources", note))
    backend = open_backend(spec.backend, given(spec))
    order = preview(spec, store)
    for finding in backend.check(order):
        subject = f"backend {spec.backend}: {finding.subject}"
        own = finding.subject in spec.backends.get(kind, {})
        if finding.severity is Severity.ERROR and own:
            subject = f"backends.{kind}.{finding.subject}"  # a line of the file
        elif "." in finding.subject:
            subject = finding.subject
        elif finding.subject == kind:
            subject = f"backend {spec.backend}"
        findings.append(replace(finding, subject=subject))
    return [*findings, *budget.judged(spec, budget.offer(spec, backend, order))]
