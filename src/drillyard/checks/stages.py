"""Checks of a composite that is done in stages: every stage as the experiment that it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drillyard.findings import Finding, passed
from drillyard.runs.stages import stages_of
from drillyard.spec.load import Loaded
from drillyard.spec.stages import order, upstream

_OF_ALL = ("file", "store", "files")
"""What is the same for all stages."""


def check_stages(loaded: Loaded, check: Callable[[Loaded], list[Finding]]) -> list[Finding]:
    """Returns the findings of every stage, each with the name of its stage.

    Args:
        loaded: An experiment for which ``is_staged`` holds.
        check: Checks one stage.
    """
    above = upstream(loaded.spec.children)
    names = order(loaded.spec.children)
    drawn = "; ".join(f"{n} after {', '.join(above[n])}" if above[n] else n for n in names)
    findings = [passed("stages", f"{len(names)} stages: {drawn}")]
    reported = set[tuple[str, str]]()
    for name, stage in stages_of(loaded).items():
        for finding in check(stage):
            if (finding.subject, finding.message) in reported and finding.subject in _OF_ALL:
                continue
            reported.add((finding.subject, finding.message))
            findings.append(replace(finding, subject=f"{_before(name)}{finding.subject}"))
    return findings


def of_stage(findings: list[Finding], name: str) -> list[Finding]:
    """Returns the findings of one stage as those of the experiment that it is.

    Args:
        findings: From ``check_stages``.
        name: The stage.
    """
    before = _before(name)
    return [
        replace(finding, subject=finding.subject.removeprefix(before))
        for finding in findings
        if finding.subject.startswith(before)
    ]


def _before(name: str) -> str:
    return f"stage {name}: "
