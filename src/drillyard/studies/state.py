"""The progress of a study: pure functions from its trials to counts, best trial and budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from drillyard.mailbox.records import StudyState, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.study import ObjectiveSpec, StudySpec
from drillyard.studies.objectives import dominates


def ranked(
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, TrialOutcome],
    objectives: Sequence[ObjectiveSpec],
) -> list[TrialOutcome]:
    """Succeeded trials of the search, best first by the first objective; earlier ones first."""
    first = objectives[0]
    measured = (
        outcome
        for record in records
        if (outcome := outcomes.get(record.number)) is not None
        and outcome.status is Status.SUCCEEDED
        and record.search
        and all(o.name in outcome.values for o in objectives)
    )
    return sorted(measured, key=lambda o: (-first.sign * o.values[first.name], o.number))


def front_of(outcomes: Sequence[TrialOutcome], objectives: Sequence[ObjectiveSpec]) -> list[int]:
    """Numbers of the trials that no other one beats in all objectives; [] for one objective."""
    if len(objectives) < 2:
        return []
    return sorted(
        a.number
        for a in outcomes
        if not any(dominates(b.values, a.values, objectives) for b in outcomes)
    )


def plateau_length(
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, TrialOutcome],
    objectives: Sequence[ObjectiveSpec],
    min_delta: float,
) -> int:
    """Number of trials that have ended since the last improvement, in the order of their ends."""
    first, since = objectives[0], 0
    best: float | None = None
    for outcome in _in_order(records, outcomes):
        value = outcome.values.get(first.name)
        good = outcome.status is Status.SUCCEEDED and value is not None
        score = first.sign * value if good and value is not None else None
        if score is not None and (best is None or score > best + min_delta):
            best, since = score, 0
        else:
            since += 1
    return since


def progress(
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, TrialOutcome],
    objectives: Sequence[ObjectiveSpec],
) -> list[tuple[int, float, dict[str, float]]]:
    """The best value of each objective over time.

    Returns:
        (number of ended trials, Unix time in seconds, objective -> best value so far), one entry
        for each trial that ended, from the first that succeeded.
    """
    points: list[tuple[int, float, dict[str, float]]] = []
    best: dict[str, float] = {}
    for ended, outcome in enumerate(_in_order(records, outcomes), start=1):
        for objective in objectives:
            value = outcome.values.get(objective.name)
            if value is None or outcome.status is not Status.SUCCEEDED:
                continue
            known = best.get(objective.name)
            if known is None or objective.sign * value > objective.sign * known:
                best[objective.name] = value
        if best:
            points.append((ended, outcome.ended_at or 0.0, dict(best)))
    return points


def _in_order(
    records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
) -> list[TrialOutcome]:
    """The outcomes of the trials of the search, in the order of their ends."""
    return sorted(
        (outcomes[r.number] for r in records if r.search and r.number in outcomes),
        key=lambda o: (o.ended_at or 0.0, o.number),
    )


def failed_too_often(state: StudyState) -> bool:
    """True if all trials failed, or more of them than the limit allows."""
    failures = state.budgets.get("failures")
    many = failures is not None and failures["used"] >= failures["limit"]
    return many or bool(state.failed and not state.succeeded and not state.pruned)


def failures(outcomes: Mapping[int, TrialOutcome]) -> int:
    """Number of trials that failed or took too long."""
    return sum(o.status in (Status.FAILED, Status.TIMED_OUT) for o in outcomes.values())


def used_up(budgets: Mapping[str, Mapping[str, float]]) -> str | None:
    """Describes the first budget that is used up; the number of trials does not count."""
    for name, budget in budgets.items():
        used, limit = budget["used"], budget["limit"]
        if name != "trials" and used >= limit:
            if name == "failures":
                return f"{used:.0f} trials have failed (study.max_failures)"
            if name == "plateau":
                return f"{used:.0f} trials brought no progress (study.budget.plateau)"
            return f"study.budget.{name} = {limit:g} is used up ({used:.4g})"
    return None


def budgets_of(
    study: StudySpec,
    total: int | None,
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, TrialOutcome],
    objectives: Sequence[ObjectiveSpec],
    *,
    hours: float,
    cost: float,
) -> dict[str, dict[str, float]]:
    """Every budget: what is used of it, and its limit.

    Args:
        study: The limits.
        total: Maximum number of trials; None for as many as there are assignments.
        records: What was chosen.
        outcomes: How it ended.
        objectives: For the plateau.
        hours: Total time of all drivers.
        cost: Total cost of all leases.
    """
    limits = study.budget
    search = [r for r in records if r.search]
    budgets: dict[str, dict[str, float]] = {}
    if total is not None:
        budgets["trials"] = {"used": float(len(search)), "limit": float(total)}
    failed = float(failures(outcomes))
    budgets["failures"] = {"used": failed, "limit": float(study.failures_allowed)}
    if limits.steps is not None:
        steps = sum(o.steps for o in outcomes.values())
        budgets["steps"] = {"used": float(steps), "limit": float(limits.steps)}
    if limits.hours is not None:
        budgets["hours"] = {"used": hours, "limit": limits.hours}
    if limits.cost is not None:
        budgets["cost"] = {"used": cost, "limit": limits.cost}
    if limits.plateau is not None:
        length = plateau_length(records, outcomes, objectives, limits.plateau.min_delta)
        budgets["plateau"] = {"used": float(length), "limit": float(limits.plateau.trials)}
    return budgets


def state_of(
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, TrialOutcome],
    objectives: Sequence[ObjectiveSpec],
    *,
    phase: str,
    budgets: dict[str, dict[str, float]],
    stopped: str | None,
    seeds_rule: str | None = None,
) -> StudyState:
    """The state of a study.

    Args:
        records: What was chosen.
        outcomes: How it ended.
        objectives: The objectives.
        phase: ``search``, ``confirm``, ``over``.
        budgets: From ``budgets_of``.
        stopped: Why no more trials are chosen.
        seeds_rule: The result of ``seeds: auto``.
    """
    search = [r for r in records if r.search]
    counts = Counter(outcomes[r.number].status for r in search if r.number in outcomes)
    ranking = ranked(records, outcomes, objectives)
    best = ranking[0] if ranking else None
    confirming = [r for r in records if r.of is not None and best and r.of == best.number]
    return StudyState(
        phase=phase,
        chosen=len(search),
        succeeded=counts[Status.SUCCEEDED],
        failed=counts[Status.FAILED] + counts[Status.TIMED_OUT],
        pruned=counts[Status.PRUNED],
        cancelled=counts[Status.CANCELLED],
        best=best.number if best else None,
        best_values=best.values if best else {},
        front=front_of(ranking, objectives),
        budgets=budgets,
        stopped=stopped,
        seeds_rule=seeds_rule,
        confirmed=confirming[-1].number if confirming else None,
    )
