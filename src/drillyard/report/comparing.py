"""What the study section compares: algorithms over simulators, or the best trials of a search.

Scores are those of the first objective, a run each. Over several simulators they are brought to
one scale first: 0 is the random baseline of the simulator (its worst run, where none was
evaluated), 1 the best run that any of the compared reached in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from drillyard import statistics as st
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase
from drillyard.results.policies import AGENT
from drillyard.results.trials import RETURN, StudyResults, TrialRow

BEST = 5
"""Trials of a search that are compared."""
POINTS = 101
SEEDS = 3
"""Fewer seeds give no interval over seeds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several of a kind on the same tasks.

    Attributes:
        names: What is compared, best interquartile mean first.
        tasks: The simulators.
        scaled: True where scores were brought to 0 to 1.
        score: What is compared, in words; more of it is better.
        estimates: Name -> aggregate -> estimate.
        profiles: Name -> share of runs above a score.
        better: (x, y, probability that a run of x is better, with interval).
        runs: Name -> how many runs.
    """

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    scaled: bool
    score: str
    estimates: dict[str, dict[str, st.Estimate]]
    profiles: dict[str, st.Profile]
    better: tuple[tuple[str, str, st.Estimate], ...]
    runs: dict[str, int]


def compare(mailbox: Mailbox, study: StudyResults) -> Comparison | None:
    """Compare the listed experiments of a study, or the best trials of a search.

    Args:
        mailbox: For the baselines.
        study: Its trials.

    Returns:
        None where there are no two things to compare.
    """
    name, sign = study.first.name, study.first.sign
    chosen = study.ranked()
    if study.chooser != "list":
        chosen = chosen[:BEST]
    scores: dict[str, dict[str, list[float]]] = {}
    for t, (who, task) in zip(chosen, _named(study, chosen), strict=True):
        values = [sign * v for v in t.by_seed.get(name, {}).values()]
        scores.setdefault(who, {}).setdefault(task, []).extend(values)
    tasks = tuple(dict.fromkeys(task for by in scores.values() for task in by))
    # Who was not tried everywhere cannot be set beside who was.
    scores = {who: by for who, by in scores.items() if set(by) == set(tasks)}
    if len(scores) < 2:
        return None
    fixed = _baselines(mailbox, study, chosen) if name == RETURN else {}
    scales = {t: _scale(t, scores, fixed.get(t, {})) for t in tasks} if len(tasks) > 1 else {}

    def strata(by: dict[str, list[float]]) -> list[list[float]]:
        return [[_scaled(v, scales.get(t)) for v in by[t]] for t in tasks]

    agents = {who: strata(by) for who, by in scores.items()}
    estimates = {who: st.aggregates(own) for who, own in agents.items()}
    order = sorted(agents, key=lambda who: -estimates[who]["iqm"].value)
    values = [v for own in agents.values() for task in own for v in task]
    low, high = min(values), max(values)
    steps = [low + (high - low) * i / (POINTS - 1) for i in range(POINTS)]
    rivals = {
        b: strata({t: [fixed[t][b]] for t in tasks})
        for b in dict.fromkeys(n for by in fixed.values() for n in by)
        if all(b in fixed.get(t, {}) for t in tasks)
    }
    score = name if sign > 0 else f"minus {name}"
    score += ", scaled" if scales else ""
    pairs = [(x, y) for i, x in enumerate(order) for y in order[i + 1 :]]
    better = [(x, y, st.probability_of_improvement(agents[x], agents[y])) for x, y in pairs]
    better += [
        (x, b, st.probability_of_improvement(agents[x], own))
        for x in order for b, own in rivals.items()
    ]  # fmt: skip
    return Comparison(
        names=tuple(order), tasks=tasks, scaled=bool(scales), score=score,
        estimates=estimates,
        profiles={who: st.performance_profile(own, steps) for who, own in agents.items()},
        better=tuple(better), runs={who: sum(map(len, own)) for who, own in agents.items()},
    )  # fmt: skip


def _named(study: StudyResults, chosen: list[TrialRow]) -> list[tuple[str, str]]:
    """(who, task) of each trial: algorithm and simulator, where that tells all of them apart."""
    pairs = [
        (str(_part(study, t, "learner").get("algorithm", "")),
         str(_part(study, t, "simulator").get("id", "")))
        for t in chosen
    ]  # fmt: skip
    if study.chooser == "list" and len(set(pairs)) == len(pairs) and all(a for a, _ in pairs):
        return pairs
    return [(t.title, "") for t in chosen]


def _part(study: StudyResults, t: TrialRow, part: str) -> dict[str, object]:
    found = t.parts.get(part) or study.spec.get(part) or {}
    return found if isinstance(found, dict) else {}


def _baselines(
    mailbox: Mailbox, study: StudyResults, chosen: list[TrialRow]
) -> dict[str, dict[str, float]]:
    """Simulator -> baseline -> mean return, from the first evaluation in it that has them."""
    found: dict[str, dict[str, float]] = {}
    for t, (_, task) in zip(chosen, _named(study, chosen), strict=True):
        for seed in t.seeds if task not in found else ():
            try:
                accepted = mailbox.accepted(run_id(t.number, seed), Phase.EVALUATE)
            except CorruptObject:
                continue
            policies = (accepted.summary.get("policies") or {}) if accepted else {}
            own = {str(k): float(v["mean_return"]) for k, v in policies.items() if k != AGENT}
            if own:
                found[task] = own
                break
    return found


def _scale(
    task: str, scores: dict[str, dict[str, list[float]]], fixed: dict[str, float]
) -> tuple[float, float]:
    values = [v for by in scores.values() for v in by[task]]
    low = fixed.get("random", min(values))
    return (low, max(values)) if max(values) > low else (low, low + 1.0)


def _scaled(value: float, scale: tuple[float, float] | None) -> float:
    return value if scale is None else (value - scale[0]) / (scale[1] - scale[0])
