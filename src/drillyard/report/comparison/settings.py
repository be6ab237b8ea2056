"""The settings that differ between the compared, and what that means for the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drillyard.documents.leaves import flatten, value_text
from drillyard.report.comparison.model import Candidate, Setting
from drillyard.system.lists import few
from drillyard.system.redaction import MASK, is_secret_key, redact

NOT_COMPARED = ("schema", "name", "store", "parameters", "study", "tracking", "report", "backends")
"""Parts of a file that say nothing about a result, or repeat what other parts say."""


def differing(candidates: Sequence[Candidate]) -> tuple[Setting, ...]:
    """Every setting that is not the same for all, in the order of the experiment file.

    Args:
        candidates: The compared.
    """
    columns = [_settings(c) for c in candidates]
    paths = dict.fromkeys(path for column in columns for path in column)
    return tuple(
        Setting(path, values)
        for path in paths
        if len(set(values := tuple(column.get(path) for column in columns))) > 1
    )


def _settings(candidate: Candidate) -> dict[str, str]:
    results = candidate.results
    tree = {k: v for k, v in candidate.settings.items() if k not in NOT_COMPARED}
    tree["seeds"] = [r.seed for r in results.runs] or candidate.settings.get("seeds", [])
    settings = {
        path: MASK if is_secret_key(path.rpartition(".")[2]) else redact(value_text(value))
        for path, value in flatten(tree)
    }
    settings |= {f"version of {package}": version for package, version in results.versions.items()}
    if results.code:
        settings["code"] = results.code[:12]
    if results.git_commit:
        changed = " with uncommitted changes" if results.git_dirty else ""
        settings["git commit"] = results.git_commit[:12] + changed
    return settings


def notes(candidates: Sequence[Candidate], differences: Sequence[Setting]) -> list[str]:
    """What differs besides the thing that is tried, and makes a comparison doubtful."""
    lines = []
    paths = [s.path for s in differences]
    simulator = [p for p in paths if p.startswith("simulator.") and p != "simulator.id"]
    if simulator:
        lines.append(
            f"The simulators are set differently ({few(simulator, 3)}), so the returns may not be "
            "on one scale."
        )
    evaluation = [p for p in paths if p.startswith("evaluate.") and ".every" not in p]
    if evaluation:
        lines.append(f"The final evaluations differ ({few(evaluation, 3)}).")
    trained = {
        c.label: steps
        for c in candidates
        if (steps := max((r.step for r in c.results.runs if r.finished), default=0))
    }
    if len(set(trained.values())) > 1:
        each = ", ".join(f"{label} {steps:,}" for label, steps in trained.items())
        lines.append(f"The trainings differ in length: steps of a run: {each}.")
    return lines + [line for c in candidates for line in _doubts(c)]


def _doubts(candidate: Candidate) -> Iterator[str]:
    label, runs = candidate.label, candidate.results.runs
    left = sum(not r.finished for r in runs)
    if left:
        yield f"{label} is not finished: {left} of {len(runs)} runs."
    if candidate.chosen:
        yield (
            f"{label} is {candidate.chosen}, so its score is optimistic and is not tested. Run it "
            "again on fresh seeds."
        )
