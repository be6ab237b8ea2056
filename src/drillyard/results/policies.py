"""The table of policies: the agent over its seeds beside every baseline.

Intervals follow one rule (``drillyard.statistics``): from five seeds a bootstrap over seeds, from
three Student's t over seeds; with fewer, seeds say too little, so the interval is over episodes
and labelled so, beside the values of the single seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.results.model import Interval, PolicyScore

AGENT = "agent"
STUDENT = "Student's t"
BOOTSTRAP = "bootstrap"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The evaluate summary of one run."""

    trial: int
    seed: int
    policies: Mapping[str, Mapping[str, Any]]
    """Policy -> ``mean_return``, ``std_return``, ``n_episodes``, ``ci95``, ``by_option``, …"""
    simulator: str = ""
    label: str = ""
    """What people call the trial."""


def scores(evaluated: Iterable[Evaluated]) -> tuple[PolicyScore, ...]:
    """Join the evaluations of all runs into one line a policy, best first.

    Args:
        evaluated: One entry a run whose evaluation was accepted, in order of the seeds. Baselines
            are taken from the first run of a simulator that has them: their evaluation seeds
            are the same for all.

    Returns:
        The agent (one line a trial, where there are several) and every baseline, best first; of
        several simulators one after the other.
    """
    runs = list(evaluated)
    trials: dict[int, list[Evaluated]] = {}
    baselines: dict[tuple[str, str], Mapping[str, Any]] = {}
    worlds = list(dict.fromkeys(run.simulator for run in runs))
    for run in runs:
        if AGENT in run.policies:
            trials.setdefault(run.trial, []).append(run)
        for name, summary in run.policies.items():
            if name != AGENT:
                baselines.setdefault((run.simulator, name), summary)
    found = [_agent(trial, runs, several=len(trials) > 1) for trial, runs in trials.items()]
    found += [_baseline(world, name, one) for (world, name), one in baselines.items()]
    return tuple(sorted(
        found, key=lambda p: (worlds.index(p.simulator), -_rank(p.mean_return), p.policy)
    ))  # fmt: skip


def _rank(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _name(trial: int, label: str) -> str:
    return f"{AGENT} t{trial:04d}" + (f" ({label})" if label else "")


def _agent(trial: int, runs: list[Evaluated], *, several: bool) -> PolicyScore:
    own = [r.policies[AGENT] for r in runs]
    seeds = {r.seed: _number(s.get("mean_return")) for r, s in zip(runs, own, strict=True)}
    n_episodes, pooled_mean, pooled_std = _pool(own)
    mean = sum(seeds.values()) / len(seeds)
    lengths = [_number(s.get("mean_length")) for s in own if s.get("mean_length") is not None]
    return PolicyScore(
        policy=_name(trial, runs[0].label) if several else AGENT,
        baseline=False,
        mean_return=mean,
        interval=over_seeds(list(seeds.values())) or _over_episodes(own, pooled_mean, pooled_std),
        seeds=seeds,
        n_episodes=n_episodes,
        std_return=pooled_std,
        mean_length=sum(lengths) / len(lengths) if lengths else None,
        by_option=_by_option(own),
        metrics=_metrics(own),
        trial=trial,
        simulator=runs[0].simulator,
    )


def _baseline(simulator: str, name: str, summary: Mapping[str, Any]) -> PolicyScore:
    n_episodes, mean, std = _pool([summary])
    length = summary.get("mean_length")
    return PolicyScore(
        policy=name,
        baseline=True,
        mean_return=mean,
        interval=_over_episodes([summary], mean, std),
        seeds={},
        n_episodes=n_episodes,
        std_return=std,
        mean_length=None if length is None else _number(length),
        by_option=_by_option([summary]),
        metrics=_metrics([summary]),
        simulator=simulator,
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _pool(summaries: list[Mapping[str, Any]]) -> tuple[int, float, float | None]:
    """(episodes, mean, sample standard deviation) of all episodes together, from their sums."""
    parts = [
        (int(s.get("n_episodes") or 0), _number(s.get("mean_return")), s.get("std_return"))
        for s in summaries
    ]
    total = sum(n for n, _, _ in parts)
    if total == 0:
        return 0, _number(summaries[0].get("mean_return")), None
    mean = sum(n * m for n, m, _ in parts) / total
    if total < 2 or any(std is None for _, _, std in parts):
        return total, mean, None
    squares = sum((n - 1) * _number(std) ** 2 + n * (m - mean) ** 2 for n, m, std in parts)
    return total, mean, math.sqrt(squares / (total - 1))


def over_seeds(values: list[float], *, resamples: int | None = None) -> Interval | None:
    """The 95 % interval of a mean over seeds; None below three, where seeds say too little.

    The seeds are resampled whole. The lesson's values are no strata here: one trained agent is
    evaluated at all of them, so they are not independent, and an interval that took them so would
    be too narrow.

    Args:
        values: One mean return a seed.
        resamples: Of the bootstrap; the default is that of ``drillyard.statistics``.
    """
    from drillyard import statistics

    if len(values) < statistics.MIN_SEEDS_T or not all(map(math.isfinite, values)):
        return None
    if len(values) < statistics.MIN_SEEDS_BOOTSTRAP:
        found = statistics.t_interval(values)
        return Interval(*found, "seeds", STUDENT) if found else None
    low, high = statistics.stratified_bootstrap(
        [values], resamples=resamples or statistics.RESAMPLES
    )
    return Interval(low, high, "seeds", BOOTSTRAP)


def _over_episodes(
    summaries: list[Mapping[str, Any]], mean: float, std: float | None
) -> Interval | None:
    """Student's t over all episodes together, from their number, mean and deviation."""
    n = sum(int(s.get("n_episodes") or 0) for s in summaries)
    if std is None or n < 2 or not math.isfinite(mean):
        return None
    from drillyard.statistics import student_t

    half = student_t(0.975, n - 1) * std / math.sqrt(n)
    return Interval(mean - half, mean + half, "episodes", STUDENT)


def _by_option(summaries: list[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over runs of the mean return at each value of each reset key."""
    found: dict[str, dict[str, list[float]]] = {}
    for summary in summaries:
        options = summary.get("by_option")
        for key, values in options.items() if isinstance(options, dict) else ():
            for value, result in values.items() if isinstance(values, dict) else ():
                mean = result.get("mean_return") if isinstance(result, dict) else result
                if isinstance(mean, int | float):
                    found.setdefault(str(key), {}).setdefault(str(value), []).append(float(mean))
    return {k: {v: sum(m) / len(m) for v, m in by.items()} for k, by in found.items()}


def _metrics(summaries: list[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for summary in summaries:
        metrics = summary.get("metrics")
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            if isinstance(value, int | float):
                found.setdefault(str(name), []).append(float(value))
    return {name: sum(v) / len(v) for name, v in found.items()}
