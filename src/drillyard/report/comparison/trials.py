"""What the study section compares: algorithms over simulators, or the best trials of a search.

Scores are those of the first objective, a run each. Over several simulators they are brought to
one scale first: 0 is the random baseline of the simulator (its worst run, where none was
evaluated), 1 the best run that any of the compared reached in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drillyard import statistics as st
from drillyard.documents.json_types import JsonObject, as_integer, as_list, as_number
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase
from drillyard.mailbox.summaries import policy_scores
from drillyard.report.comparison.pairs import Pair, Places, compared
from drillyard.results.policies import AGENT
from drillyard.results.trials import COMPARED, RETURN, StudyResults, TrialRow

BEST = 5
"""Trials of a search that are compared."""
POINTS = 101
TOO_FEW = "comparisons need three runs of each of two or more on every simulator"
"""Why there is no comparison, where there are fewer."""

Scores = dict[str, dict[str, list[float]]]
"""Name -> simulator -> a score for each run."""


@dataclass(frozen=True, slots=True)
class TrialComparison:
    """Several of a kind on the same tasks.

    Attributes:
        names: What is compared, best interquartile mean first.
        tasks: The simulators.
        score: What is compared, in words; more of it is better.
        estimates: Name -> aggregate -> estimate; the intervals hold all at once. Those of a
            search have none: they were chosen by these numbers.
        profiles: Name -> share of runs above a score.
        pairs: The comparison of each pair, and of each with each baseline.
        places: Name -> (best, last) place that it can have.
        chosen: True for the best trials of a search.
        again: The interquartile mean of the winner on fresh seeds, where it ran again.
    """

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    score: str
    estimates: dict[str, dict[str, st.Estimate]]
    profiles: dict[str, st.Profile]
    pairs: tuple[Pair, ...]
    places: Places
    chosen: bool
    again: st.Estimate | None

    @property
    def scaled(self) -> bool:
        """True where scores were brought to 0 to 1."""
        return len(self.tasks) > 1


@dataclass(frozen=True, slots=True)
class Scale:
    """What becomes 0 and what becomes 1 of the scores in a simulator."""

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, values: Iterable[float], random: float | None = None) -> Scale:
        """The scale of every run of everything that is compared.

        Args:
            values: The runs.
            random: Mean of the random baseline, where there is one.
        """
        known = list(values)
        low = min(known) if random is None else random
        return cls(low, max(known) if max(known) > low else low + 1.0)

    def __call__(self, value: float) -> float:
        """The score on this scale."""
        return (value - self.low) / (self.high - self.low)

    def fixed(self, baseline: st.Fixed) -> st.Fixed:
        """A baseline on this scale."""
        error = baseline.error / (self.high - self.low)
        return st.Fixed(self(baseline.mean), error, baseline.episodes)


def compare(mailbox: Mailbox, study: StudyResults) -> TrialComparison | None:
    """Compare the listed experiments of a study, or the best trials of a search.

    Args:
        mailbox: For the baselines.
        study: Its trials.

    Returns:
        None where there are no two things to compare, or fewer than three runs of one.
    """
    ranked = study.ranked()
    trials = _named(study, ranked if study.chooser == "list" else ranked[:BEST])
    scores = _scores(study, trials)
    if len(scores) < 2:
        return None
    tasks = tuple(next(iter(scores.values())))
    fixed = _baselines(mailbox, trials) if study.first.name == RETURN else {}
    scales = _scales(scores, fixed) if len(tasks) > 1 else {tasks[0]: Scale()}
    groups = _best(scores, scales)
    if any(len(runs) < st.MIN_VALUES for group in groups.values() for runs in group):
        return None
    level = st.together(len(groups))
    estimates = {name: st.aggregates(group, confidence=level) for name, group in groups.items()}
    groups = dict(sorted(groups.items(), key=lambda item: -estimates[item[0]]["iqm"].value))
    pairs, places = compared(groups, _everywhere(fixed, scales))
    score = study.first.name if study.first.sign > 0 else f"minus {study.first.name}"
    return TrialComparison(
        names=tuple(groups),
        tasks=tasks,
        score=score + ", scaled" if len(tasks) > 1 else score,
        estimates=_without_intervals(estimates) if study.chosen_by_score else estimates,
        profiles=_profiles(groups),
        pairs=pairs,
        places=places,
        chosen=study.chosen_by_score,
        again=_again(study) if len(tasks) == 1 else None,
    )


Named = list[tuple[TrialRow, str, str]]
"""(trial, its name in the comparison, its simulator)."""


def _named(study: StudyResults, trials: list[TrialRow]) -> Named:
    """The trials by algorithm and simulator, where that tells all of them apart."""
    algorithms = [str(study.part(t, "learner").get("algorithm", "")) for t in trials]
    pairs = list(zip(algorithms, map(study.simulator, trials), strict=True))
    if study.chooser != "list" or len(set(pairs)) < len(pairs) or not all(algorithms):
        pairs = [(t.title, "") for t in trials]
    return [(t, *pair) for t, pair in zip(trials, pairs, strict=True)]


def _scores(study: StudyResults, trials: Named) -> Scores:
    """The scores of those that were tried in every simulator; others cannot be set beside them."""
    scores: Scores = {}
    for t, name, task in trials:
        values = t.by_seed.get(study.first.name, {}).values()
        runs = scores.setdefault(name, {}).setdefault(task, [])
        runs += [study.first.sign * value for value in values]
    tasks = dict.fromkeys(task for _, _, task in trials)
    return {
        name: {task: by_task[task] for task in tasks}
        for name, by_task in scores.items()
        if by_task.keys() == tasks.keys()
    }


def _scales(scores: Scores, fixed: Mapping[str, Mapping[str, st.Fixed]]) -> dict[str, Scale]:
    scales = {}
    for task in next(iter(scores.values())):
        random = fixed.get(task, {}).get("random")
        runs = (v for by_task in scores.values() for v in by_task[task])
        scales[task] = Scale.of(runs, random.mean if random else None)
    return scales


def _best(scores: Scores, scales: Mapping[str, Scale]) -> dict[str, list[list[float]]]:
    """The scaled scores of as many as are compared with each other, by their means."""
    groups = {
        name: [[scale(v) for v in by_task[task]] for task, scale in scales.items()]
        for name, by_task in scores.items()
    }
    if len(groups) <= COMPARED:
        return groups
    means = {name: st.aggregates(group)["mean"].value for name, group in groups.items()}
    return {name: groups[name] for name in sorted(groups, key=lambda n: -means[n])[:COMPARED]}


def _profiles(groups: Mapping[str, list[list[float]]]) -> dict[str, st.Profile]:
    values = [v for group in groups.values() for runs in group for v in runs]
    low, high = min(values), max(values)
    steps = [low + (high - low) * i / (POINTS - 1) for i in range(POINTS)]
    return {name: st.performance_profile(group, steps) for name, group in groups.items()}


def _without_intervals(
    estimates: dict[str, dict[str, st.Estimate]],
) -> dict[str, dict[str, st.Estimate]]:
    return {
        name: {kind: replace(e, low=None, high=None) for kind, e in by_kind.items()}
        for name, by_kind in estimates.items()
    }


def _again(study: StudyResults) -> st.Estimate | None:
    """The winner's runs on fresh seeds."""
    if study.confirmed is None:
        return None
    values = study.confirmed.by_seed.get(study.first.name, {}).values()
    return st.aggregates([[study.first.sign * v for v in values]])["iqm"] if values else None


def _baselines(mailbox: Mailbox, trials: Named) -> dict[str, dict[str, st.Fixed]]:
    """Simulator -> baseline, from the first evaluation in it that has them."""
    baselines: dict[str, dict[str, st.Fixed]] = {}
    for t, _, task in trials:
        for seed in t.seeds if task not in baselines else ():
            try:
                accepted = mailbox.accepted(run_id(t.number, seed), Phase.EVALUATE)
            except CorruptObject:
                continue
            policies = {k: _level(v) for k, v in policy_scores(accepted).items() if k != AGENT}
            if policies:
                baselines[task] = policies
                break
    return baselines


def _level(summary: JsonObject) -> st.Fixed:
    mean = as_number(summary.get("mean_return"))
    assert mean is not None  # an accepted evaluation has one
    ends = [end for value in as_list(summary.get("ci95")) if (end := as_number(value)) is not None]
    return st.Fixed.of(mean, ends or None, as_integer(summary.get("n_episodes")) or 1)


def _everywhere(
    fixed: Mapping[str, Mapping[str, st.Fixed]], scales: Mapping[str, Scale]
) -> dict[str, list[st.Fixed]]:
    """Baseline -> its scaled score in each simulator, for those that were evaluated in all."""
    names = dict.fromkeys(name for by_name in fixed.values() for name in by_name)
    return {
        name: [scale.fixed(fixed[task][name]) for task, scale in scales.items()]
        for name in names
        if all(name in fixed.get(task, {}) for task in scales)
    }
