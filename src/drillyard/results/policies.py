"""The tables of policies (the agent over its seeds beside every baseline) and of metrics.

Intervals follow one rule (``drillyard.statistics.intervals``): from three seeds an interval over
seeds; of one seed over its episodes, and labelled so; of two none, because an interval over the
episodes of both could leave out both seeds. The seeds' own values are shown beside it.

A trial that a search ranked by its score has no interval: the best of many is the luckiest, too.
The lines of a list have intervals that hold all at once, whichever of them comes out on top.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drillyard.documents.json_types import JsonView, as_number, as_numbers
from drillyard.results.model import Interval, MetricScore, PolicyScore, Role, RunResult

AGENT = "agent"
BEFORE = "Student's t"
"""How an evaluation that does not name its method made its interval over episodes."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The evaluate summary of one run."""

    trial: int
    seed: int
    policies: Mapping[str, Mapping[str, JsonView]]
    """Policy -> ``mean_return``, ``std_return``, ``n_episodes``, ``ci95``, ``by_option``, …"""
    simulator: str = ""
    label: str = ""
    """What people call the trial."""
    role: Role = ""


def scores(
    evaluated: Iterable[Evaluated], ranges: Mapping[str, tuple[float, float]] | None = None
) -> tuple[PolicyScore, ...]:
    """Join the evaluations of all runs into one line a policy, best first.

    Args:
        evaluated: One entry a run whose evaluation was accepted, in order of the seeds. Baselines
            are taken from the first run of a simulator that has them: their evaluation seeds
            are the same for all.
        ranges: Simulator -> its possible returns, which cut the intervals.

    Returns:
        The agent (one line a trial, where there are several) and every baseline, best first; of
        several simulators one after the other.
    """
    runs = list(evaluated)
    trials: dict[int, list[Evaluated]] = {}
    baselines: dict[tuple[str, str], Mapping[str, JsonView]] = {}
    worlds = list(dict.fromkeys(run.simulator for run in runs))
    for run in runs:
        if AGENT in run.policies:
            trials.setdefault(run.trial, []).append(run)
        for name, summary in run.policies.items():
            if name != AGENT:
                baselines.setdefault((run.simulator, name), summary)
    ranked = Counter(
        runs_[0].simulator for runs_ in trials.values() if runs_[0].role != "confirms"
    )
    scores_ = [
        _agent(trial, runs_, several=len(trials) > 1, among=ranked[runs_[0].simulator])
        for trial, runs_ in trials.items()
    ]
    scores_ += [_baseline(world, name, baseline) for (world, name), baseline in baselines.items()]
    scores_ = [
        dataclasses.replace(p, interval=p.interval.cut((ranges or {}).get(p.simulator)))
        if p.interval
        else p
        for p in scores_
    ]
    return tuple(
        sorted(scores_, key=lambda p: (worlds.index(p.simulator), -_rank(p.mean_return), p.policy))
    )


def role_of(chooser: str, of: int | None) -> Role:
    """What a trial is to its study.

    Args:
        chooser: Chooser of the study.
        of: The trial whose winner it runs again on fresh seeds.
    """
    if of is not None:
        return "confirms"
    return "listed" if chooser in ("list", "manual", "one-shot") else "searched"


def _rank(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _name(trial: int, label: str) -> str:
    return f"{AGENT} t{trial:04d}" + (f" ({label})" if label else "")


def _agent(trial: int, runs: list[Evaluated], *, several: bool, among: int) -> PolicyScore:
    policies = [r.policies[AGENT] for r in runs]
    seeds = {r.seed: _number(s.get("mean_return")) for r, s in zip(runs, policies, strict=True)}
    n_episodes, _, pooled_std = _pool(policies)
    role = runs[0].role
    interval = over_trial(list(seeds.values()), role, among)
    if len(seeds) == 1 and (among == 1 or role in ("", "confirms")):
        interval = _over_episodes(policies[0])
    mean = sum(seeds.values()) / len(seeds)
    lengths = [_number(s.get("mean_length")) for s in policies if s.get("mean_length") is not None]
    return PolicyScore(
        policy=_name(trial, runs[0].label) if several else AGENT,
        baseline=False,
        mean_return=mean,
        interval=interval,
        seeds=seeds,
        n_episodes=n_episodes,
        std_return=pooled_std,
        mean_length=sum(lengths) / len(lengths) if lengths else None,
        by_option=_by_option(policies),
        metrics=_metrics(policies),
        trial=trial,
        simulator=runs[0].simulator,
        role=role,
    )


def _baseline(simulator: str, name: str, summary: Mapping[str, JsonView]) -> PolicyScore:
    n_episodes, mean, std = _pool([summary])
    length = summary.get("mean_length")
    return PolicyScore(
        policy=name,
        baseline=True,
        mean_return=mean,
        interval=_over_episodes(summary),
        seeds={},
        n_episodes=n_episodes,
        std_return=std,
        mean_length=None if length is None else _number(length),
        by_option=_by_option([summary]),
        metrics=_metrics([summary]),
        simulator=simulator,
    )


def _number(value: JsonView) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _count(summary: Mapping[str, JsonView]) -> int:
    episodes = summary.get("n_episodes")
    return int(episodes) if isinstance(episodes, int | float) else 0


def _pool(summaries: list[Mapping[str, JsonView]]) -> tuple[int, float, float | None]:
    """(episodes, mean, sample standard deviation) of all episodes together, from their sums."""
    parts = [(_count(s), _number(s.get("mean_return")), s.get("std_return")) for s in summaries]
    total = sum(n for n, _, _ in parts)
    if total == 0:
        return 0, _number(summaries[0].get("mean_return")), None
    mean = sum(n * m for n, m, _ in parts) / total
    if total < 2 or any(std is None for _, _, std in parts):
        return total, mean, None
    squares = sum((n - 1) * _number(std) ** 2 + n * (m - mean) ** 2 for n, m, std in parts)
    return total, mean, math.sqrt(squares / (total - 1))


def over_seeds(values: Sequence[float], *, among: int = 1) -> Interval | None:
    """The 95 % interval of a mean over seeds; None where seeds say too little.

    The seeds are taken whole. The lesson's values are no groups here: one trained agent is
    evaluated at all of them, so they are not independent, and an interval that took them so would
    be too narrow.

    Args:
        values: One mean return a seed.
        among: How many such intervals of a table are to hold at once.
    """
    from drillyard.statistics import METHOD, mean_interval, together

    interval = mean_interval(values, together(among))
    return Interval(*interval, "seeds", METHOD, among=among) if interval else None


def over_trial(values: Sequence[float], role: Role, among: int) -> Interval | None:
    """The interval over the seeds of a trial, by what it is to its study.

    Args:
        values: One a seed.
        role: Whether it was listed, or ranked by a search.
        among: How many trials were, this one included.
    """
    if role == "searched" and among > 1:
        return None
    return over_seeds(values, among=among if role == "listed" else 1)


def _over_episodes(summary: Mapping[str, JsonView]) -> Interval | None:
    """What the evaluation itself computed from its episodes."""
    interval = summary.get("ci95")
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return None
    method = str(summary.get("ci95_method") or BEFORE)
    low, high = as_number(interval[0]), as_number(interval[1])
    return None if low is None or high is None else Interval(low, high, "episodes", method)


def _by_option(summaries: list[Mapping[str, JsonView]]) -> dict[str, dict[str, float]]:
    """Mean over runs of the mean return at each value of each reset key."""
    means: dict[str, dict[str, list[float]]] = {}
    for summary in summaries:
        options = summary.get("by_option")
        for key, values in options.items() if isinstance(options, dict) else ():
            for value, result in values.items() if isinstance(values, dict) else ():
                mean = result.get("mean_return") if isinstance(result, dict) else result
                if isinstance(mean, int | float):
                    means.setdefault(str(key), {}).setdefault(str(value), []).append(float(mean))
    return {k: {v: sum(m) / len(m) for v, m in by.items()} for k, by in means.items()}


def _metrics(summaries: list[Mapping[str, JsonView]]) -> dict[str, float]:
    """Mean over runs of each of the simulator's own measures."""
    measured: dict[str, list[float]] = {}
    for summary in summaries:
        for name, value in as_numbers(summary.get("metrics")).items():
            measured.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in measured.items()}


def metric_scores(
    runs: Iterable[RunResult],
    roles: Mapping[int, Role] | None = None,
) -> tuple[MetricScore, ...]:
    """One line a trial and metric: mean and interval over seeds.

    Args:
        runs: The runs, with what each measured.
        roles: Trial -> what it is to its study; default: there is no study.
    """
    roles = roles or {}
    values: dict[tuple[int, str], dict[int, float]] = {}
    for run in runs:
        for name, value in run.metrics.items():
            values.setdefault((run.trial, name), {})[run.seed] = value
    ranked = Counter(name for trial, name in values if roles.get(trial) != "confirms")
    return tuple(
        MetricScore(
            name,
            sum(v.values()) / len(v),
            over_trial(list(v.values()), roles.get(trial, ""), ranked[name]),
            v,
            trial,
        )
        for (trial, name), v in values.items()
    )
