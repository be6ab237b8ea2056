"""Do the runs that share a machine fit into its memory? Compared with what a trial measured."""

from __future__ import annotations

from drillyard.backend.settings.experiment import packing
from drillyard.checks.trial import measured
from drillyard.findings import Finding, passed, problem, warning
from drillyard.leases.places import specs_of
from drillyard.spec.load import Loaded

SUBJECT = "runs_per_machine"
SYSTEM_GB = 1.0
"""What the system and the worker of a machine take, in GB (2**30 bytes); rounded up."""


def fits(loaded: Loaded) -> list[Finding]:
    """Compares the memory of the machines with that of the runs that share one.

    Every place is looked at, also one that cannot work now: a run may move there later.

    Args:
        loaded: An experiment whose training was tried.

    Returns:
        One finding for each machine type on which runs share a machine.
    """
    peak: int | None = None
    findings: list[Finding] = []
    for _, there in specs_of(loaded.spec):
        shared = packing(there)
        if shared is None or shared.runs < 2:
            continue
        if peak is None:
            peak = measured(loaded)
        if peak is None:
            return []
        candidates = (
            _of(name, memory, shared.runs, peak) for name, memory in shared.machines.items()
        )
        findings += [finding for finding in candidates if finding not in findings]
    return findings


def _of(machine: str, memory: float | None, runs: int, peak: int) -> Finding:
    """What one machine type says about so many runs of so many bytes."""
    each = peak / 2**30
    need = runs * each + SYSTEM_GB
    text = (
        f"{runs} runs a machine take at least {need:.1f} GB ({each:.2f} GB each, measured in a "
        f"short training here, and {SYSTEM_GB:g} GB for the system)"
    )
    if memory is None:
        text = f"{text}; the memory of {machine} is not known"
        fix = "compare it with the provider's page; `drillyard list machines` has others"
        return warning(SUBJECT, text, fix)
    if need > memory:
        most = max(1, int((memory - SYSTEM_GB) / each))
        text = f"{text}, and {machine} has {memory:g} GB"
        fix = f"runs_per_machine: {most}; or a machine type with more memory"
        return problem(SUBJECT, text, fix)
    return passed(SUBJECT, f"{text}; {machine} has {memory:g} GB")
