"""Do the runs that share a machine fit into its memory? Compared with what a trial measured."""

from __future__ import annotations

from drillyard.backend.settings.experiment import packing
from drillyard.checks.trial import measured
from drillyard.findings import Finding, Severity
from drillyard.spec.load import Loaded

SUBJECT = "runs_per_machine"
SYSTEM_GB = 1.0
"""What the system and the worker of a machine take, in GB (2**30 bytes); rounded up."""


def fits(loaded: Loaded) -> list[Finding]:
    """Compares the memory of the machines with that of the runs that share one.

    Args:
        loaded: An experiment whose training was tried.

    Returns:
        One finding; none if each run has a machine for itself.
    """
    shared = packing(loaded.spec)
    if shared is None or shared.runs < 2:
        return []
    peak = measured(loaded)
    if peak is None:
        return []
    each = peak / 2**30
    need = shared.runs * each + SYSTEM_GB
    said = (
        f"{shared.runs} runs a machine take at least {need:.1f} GB ({each:.2f} GB each, measured"
    )
    said += f" in a short training here, and {SYSTEM_GB:g} GB for the system)"
    findings = []
    for name, memory in shared.machines.items():
        if memory is None:
            text = f"{said}; the memory of {name} is not known"
            fix = "compare it with the provider's page; `drillyard list machines` has others"
            findings.append(Finding(Severity.WARNING, SUBJECT, text, fix))
        elif need > memory:
            most = max(1, int((memory - SYSTEM_GB) / each))
            text = f"{said}, and {name} has {memory:g} GB"
            fix = f"runs_per_machine: {most}; or a machine type with more memory"
            findings.append(Finding(Severity.ERROR, SUBJECT, text, fix))
        else:
            findings.append(Finding(Severity.OK, SUBJECT, f"{said}; {name} has {memory:g} GB"))
    return findings
