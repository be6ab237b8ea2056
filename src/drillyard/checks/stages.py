"""Checks of a composite that is done in stages: every stage as the experiment that it is."""

from __future__ import annotations

from dataclasses import replace

from drillyard.findings import Finding, Severity
from drillyard.runs.stages import stages_of
from drillyard.spec.load import Loaded
from drillyard.spec.stages import order, upstream

_OF_ALL = ("file", "store", "files")
"""What is the same for all stages."""


def check_stages(
    loaded: Loaded, *, store: str, offline_ok: bool = False, speed: bool = False
) -> list[Finding]:
    """Returns the findings of every stage, each with the name of its stage.

    Args:
        loaded: An experiment for which ``is_staged`` holds.
        store: URL of the mailbox's store, which all stages share.
        offline_ok: Accept a tracking server that cannot be reached.
        speed: See ``check``.
    """
    from drillyard.checks.experiment import check

    above = upstream(loaded.spec.children)
    names = order(loaded.spec.children)
    drawn = "; ".join(f"{n} after {', '.join(above[n])}" if above[n] else n for n in names)
    findings = [Finding(Severity.OK, "stages", f"{len(names)} stages: {drawn}")]
    said = set[tuple[str, str]]()
    for name, stage in stages_of(loaded).items():
        for finding in check(stage, store=store, offline_ok=offline_ok, speed=speed):
            if (finding.subject, finding.message) in said and finding.subject in _OF_ALL:
                continue
            said.add((finding.subject, finding.message))
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
