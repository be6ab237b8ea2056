"""What the study section compares: algorithms over simulators, or the best trials of a search.

Scores are those of the first objective, a run each. Over several simulators they are brought to
one scale first: 0 is the random baseline of the simulator (its worst run, where none was
evaluated), 1 the best run that any of the compared reached in it.

What is told apart is told apart on the whole page: ``drillyard.statistics.verdicts``. Where there
are baselines, a fifth of the allowed error is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drillyard import statistics as st
from drillyard.documents.json_types import JsonObject, as_integer, as_list, as_number
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase
from drillyard.mailbox.summaries import policy_scores
from drillyard.results import formatting
from drillyard.results.policies import AGENT
from drillyard.results.trials import COMPARED, RETURN, StudyResults, TrialRow

BEST = 5
"""Trials of a search that are compared."""
POINTS = 101
OF_BASELINES = 0.2
"""Share of the page's allowed error that is spent on comparisons with baselines."""
TOO_FEW = "comparisons need three runs of each of two or more on every simulator"
"""Why there is no comparison, where there are fewer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several of a kind on the same tasks.

    Attributes:
        names: What is compared, best interquartile mean first.
        tasks: The simulators.
        scaled: True where scores were brought to 0 to 1.
        score: What is compared, in words; more of it is better.
        estimates: Name -> aggregate -> estimate; the intervals hold all at once. Those of a
            search have none: they were chosen by these numbers.
        profiles: Name -> share of runs above a score.
        better: The comparison of each pair, and of each with each baseline.
        places: Name -> (best, last) place that it can have.
        chosen: True for the best trials of a search.
        again: The interquartile mean of the winner on fresh seeds, where it ran again.
    """

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    scaled: bool
    score: str
    estimates: dict[str, dict[str, st.Estimate]]
    profiles: dict[str, st.Profile]
    better: tuple[Pair, ...]
    places: dict[str, tuple[int, int]]
    chosen: bool
    again: st.Estimate | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two of the compared, or one of them and a baseline.

    Attributes:
        one: The first.
        other: The second.
        improvement: Probability that a run of the one is better than a run of the other; above a
            baseline the share of runs.
        difference: Difference of the mean scores.
        p: Corrected for all pairs of the page; None for a baseline.
        word: ``better``, ``worse`` or ``undecided``.
    """

    one: str
    other: str
    improvement: st.Estimate
    difference: float
    p: float | None
    word: str


def compare(mailbox: Mailbox, study: StudyResults) -> Comparison | None:
    """Compare the listed experiments of a study, or the best trials of a search.

    Args:
        mailbox: For the baselines.
        study: Its trials.

    Returns:
        None where there are no two things to compare, or fewer than three runs of one.
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
    if len(agents) > COMPARED:
        mean = {who: st.aggregates(own)["mean"].value for who, own in agents.items()}
        agents = {who: agents[who] for who in sorted(agents, key=lambda w: -mean[w])[:COMPARED]}
    if any(len(task) < st.MIN_VALUES for own in agents.values() for task in own):
        return None
    level = st.together(len(agents))
    estimates = {who: st.aggregates(own, confidence=level) for who, own in agents.items()}
    if study.chosen_by_score:
        estimates = {
            who: {k: replace(e, low=None, high=None) for k, e in own.items()}
            for who, own in estimates.items()
        }
    order = sorted(agents, key=lambda who: -estimates[who]["iqm"].value)
    values = [v for own in agents.values() for task in own for v in task]
    low, high = min(values), max(values)
    steps = [low + (high - low) * i / (POINTS - 1) for i in range(POINTS)]
    rivals = {
        b: [_fixed(fixed[t][b], scales.get(t)) for t in tasks]
        for b in dict.fromkeys(n for by in fixed.values() for n in by)
        if all(b in fixed.get(t, {}) for t in tasks)
    }
    score = name if sign > 0 else f"minus {name}"
    score += ", scaled" if scales else ""
    error = st.ERROR * (1 - OF_BASELINES if rivals else 1)
    found = st.verdicts({who: agents[who] for who in order}, error=error)
    comparisons = len(order) * len(rivals)
    at_once = st.together(len(found) + comparisons)
    better = [
        Pair(
            x,
            y,
            st.probability_of_improvement(agents[x], agents[y], at_once),
            v.difference,
            v.p,
            v.word,
        )
        for (x, y), v in found.items()
    ]
    better += [
        _beside(x, b, agents[x], own, at_once, st.ERROR * OF_BASELINES / comparisons)
        for x in order
        for b, own in rivals.items()
    ]
    return Comparison(
        names=tuple(order),
        tasks=tasks,
        scaled=bool(scales),
        score=score,
        estimates=estimates,
        profiles={who: st.performance_profile(own, steps) for who, own in agents.items()},
        better=tuple(better),
        places=st.places(order, found),
        chosen=study.chosen_by_score,
        again=_again(study) if len(tasks) == 1 else None,
    )


def _beside(
    x: str,
    baseline: str,
    own: list[list[float]],
    fixed: list[st.Fixed],
    at_once: float,
    error: float,
) -> Pair:
    """Runs beside a baseline, which is not trained: see ``drillyard.statistics.against``.

    Args:
        x: Whose runs.
        baseline: Its name.
        own: The runs.
        fixed: The baseline in each simulator.
        at_once: Level of the interval of the share.
        error: Largest p that decides.
    """
    gaps = [[v - f.mean for v in task] for task, f in zip(own, fixed, strict=True)]
    share = st.performance_profile(gaps, [0.0], at_once)
    few = min(map(len, own)) * len(own) < formatting.DECIDES
    difference = sum(sum(t) / len(t) - f.mean for t, f in zip(own, fixed, strict=True)) / len(own)
    p = st.against(own, fixed)
    word = "better" if difference > 0 else "worse"
    improvement = st.Estimate(share.share[0], share.low[0], share.high[0])
    decided = p <= error and not few
    return Pair(x, baseline, improvement, difference, None, word if decided else "undecided")


def _again(study: StudyResults) -> st.Estimate | None:
    """The winner's runs on fresh seeds."""
    again, sign = study.confirmed, study.first.sign
    if again is None:
        return None
    values = [sign * v for v in again.by_seed.get(study.first.name, {}).values()]
    return st.aggregates([values])["iqm"] if values else None


def _named(study: StudyResults, chosen: list[TrialRow]) -> list[tuple[str, str]]:
    """(who, task) of each trial: algorithm and simulator, where that tells all of them apart."""
    pairs = [
        (
            str(_part(study, t, "learner").get("algorithm", "")),
            str(_part(study, t, "simulator").get("id", "")),
        )
        for t in chosen
    ]
    if study.chooser == "list" and len(set(pairs)) == len(pairs) and all(a for a, _ in pairs):
        return pairs
    return [(t.title, "") for t in chosen]


def _part(study: StudyResults, t: TrialRow, part: str) -> dict[str, object]:
    found = t.parts.get(part) or study.spec.get(part) or {}
    return found if isinstance(found, dict) else {}


def _baselines(
    mailbox: Mailbox, study: StudyResults, chosen: list[TrialRow]
) -> dict[str, dict[str, st.Fixed]]:
    """Simulator -> baseline, from the first evaluation in it that has them."""
    found: dict[str, dict[str, st.Fixed]] = {}
    for t, (_, task) in zip(chosen, _named(study, chosen), strict=True):
        for seed in t.seeds if task not in found else ():
            try:
                accepted = mailbox.accepted(run_id(t.number, seed), Phase.EVALUATE)
            except CorruptObject:
                continue
            own = {k: _level(v) for k, v in policy_scores(accepted).items() if k != AGENT}
            if own:
                found[task] = own
                break
    return found


def _level(summary: JsonObject) -> st.Fixed:
    mean = as_number(summary.get("mean_return"))
    assert mean is not None  # an accepted evaluation has one
    ends = [end for value in as_list(summary.get("ci95")) if (end := as_number(value)) is not None]
    return st.Fixed.of(mean, ends or None, as_integer(summary.get("n_episodes")) or 1)


def _fixed(baseline: st.Fixed, scale: tuple[float, float] | None) -> st.Fixed:
    width = 1.0 if scale is None else scale[1] - scale[0]
    mean, error = _scaled(baseline.mean, scale), baseline.error / width
    return st.Fixed(mean, error, baseline.episodes)


def _scale(
    task: str,
    scores: dict[str, dict[str, list[float]]],
    fixed: dict[str, st.Fixed],
) -> tuple[float, float]:
    values = [v for by in scores.values() for v in by[task]]
    return scaled_by(values, fixed["random"].mean if "random" in fixed else None)


def scaled_by(values: list[float], random: float | None = None) -> tuple[float, float]:
    """What becomes 0 and what becomes 1 of the scores in a simulator.

    Args:
        values: Every run of everything that is compared.
        random: Mean of the random baseline, where there is one.
    """
    low = min(values) if random is None else random
    return (low, max(values)) if max(values) > low else (low, low + 1.0)


def _scaled(value: float, scale: tuple[float, float] | None) -> float:
    return value if scale is None else (value - scale[0]) / (scale[1] - scale[0])
