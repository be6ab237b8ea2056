"""Checks the capacity that a run would rent: its budget, its hardware, and the backend."""

from __future__ import annotations

from dataclasses import replace

from drillyard.backend import Cost
from drillyard.backend.settings.experiment import unchecked
from drillyard.checks.refusal import as_finding
from drillyard.errors import DrillyardError
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.leases import budget
from drillyard.leases.orders import preview
from drillyard.leases.places import Place, Places, cheapest_first
from drillyard.spec.load import Loaded

NOT_USED = "is not used, because it cannot work now: "


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
    places = Places.of_spec(spec)
    if not places.several:
        return [*findings, *_of(places.all[0], spec.backend, store)]
    findings += [_not_used(n, error.message, error.hint) for n, error in places.lacking.items()]
    looked = [(place, _looked_at(place, store)) for place in places.all]
    usable = [place for place, reported in looked if not _errors(reported)]
    for place, reported in looked:
        errors = _errors(reported)
        if errors and usable:
            findings += [_dropped(place, error) for error in errors[:1]]
        else:
            findings += reported
    return [*findings, *_order(usable, store)]


def _looked_at(place: Place, store: str) -> list[Finding]:
    """What a place says; an error while it is asked is an error of that place alone."""
    try:
        return _of(place, place.name, store)
    except DrillyardError as error:
        fix = error.hint or "correct it"
        return [problem(f"backend {place.name}", error.message, fix)]


def _errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _dropped(place: Place, error: Finding) -> Finding:
    subject = error.subject.removeprefix(f"backend {place.name}").removeprefix(": ")
    what = f"{subject}: {error.message}" if subject else error.message
    return _not_used(place.name, what, error.fix)


def _not_used(name: str, why: str, fix: str | None) -> Finding:
    return warning(f"backend {name}", f"{NOT_USED}{why}", fix)


def dropped_in(findings: list[Finding]) -> dict[str, str]:
    """Returns the places that findings call useless now: name -> why."""
    return {
        finding.subject.removeprefix("backend "): finding.message.removeprefix(NOT_USED)
        for finding in findings
        if finding.message.startswith(NOT_USED)
    }


def _order(usable: list[Place], store: str) -> list[Finding]:
    """In which order places are tried, with their prices."""
    if not usable:
        return []
    prices = {
        p.name: budget.offer(s, p.backend, preview(s, store)) for p in usable if (s := p.spec)
    }
    ordered = cheapest_first(usable, lambda place: prices[place.name])
    words = "; then ".join(f"{p.name} ({per_hour(prices[p.name])})" for p in ordered)
    return [passed("backend", f"tried in this order: {words}")]


def per_hour(cost: Cost) -> str:
    """Returns a price in words."""
    if cost.unpriced:
        return "price not known"
    return f"{cost.per_hour:.3f} {cost.currency} an hour" if cost.per_hour > 0 else "free"


def _of(place: Place, name: str, store: str) -> list[Finding]:
    """What speaks for and against one place."""
    spec, backend = place.spec, place.backend
    assert spec is not None
    findings: list[Finding] = []
    kind = spec.backend.partition("/")[0]
    if names := unchecked(spec):
        fields = ", ".join(f"resources.{name}" for name in names)
        note = f"{fields}: not compared; machines of {kind!r} are used as they are"
        findings.append(passed("resources", note))
    order = preview(spec, store)
    for finding in backend.check(order):
        subject = f"backend {name}: {finding.subject}"
        in_file = finding.subject in spec.backends.get(kind, {})
        if finding.severity is Severity.ERROR and in_file:
            subject = f"backends.{kind}.{finding.subject}"  # a line of the file
        elif "." in finding.subject:
            subject = finding.subject
        elif finding.subject == kind:
            subject = f"backend {name}"
        findings.append(replace(finding, subject=subject))
    return [*findings, *budget.judged(spec, budget.offer(spec, backend, order))]
