"""Numbers of played episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.evaluation.episodes import Episode
from drillyard.spec.simulator.lessons import Lesson, listed
from drillyard.statistics import METHOD, MIN_VALUES, Ends, mean_interval, strata_interval


def summarise(episodes: Sequence[Episode], lesson: Lesson) -> JsonObject:
    """The numbers of one policy for tables.

    Args:
        episodes: At least one.
        lesson: Its keys with ``values`` become ``by_option``.

    Returns:
        ``mean_return``, ``min_return``, ``max_return``, ``std_return`` (n-1), ``n_episodes``,
        ``ci95`` ([low, high] over episodes; None if there are too few), ``ci95_method``,
        ``mean_length``, ``by_option`` ({key: {value: mean return}}), ``metrics`` ({name: mean}).
    """
    returns = [e.episode_return for e in episodes]
    mean = math.fsum(returns) / len(returns)
    interval = _interval(episodes, [key for key, rule in lesson.items() if listed(rule)])
    by_option: JsonObject = {}
    for key in (k for k, rule in lesson.items() if listed(rule)):
        groups: dict[str, list[float]] = {}
        for episode in episodes:
            groups.setdefault(str(episode.options[key]), []).append(episode.episode_return)
        by_option[key] = {value: math.fsum(g) / len(g) for value, g in groups.items()}
    names = sorted({name for e in episodes for name in e.metrics})
    metrics: JsonObject = {
        name: math.fsum(e.metrics.get(name, 0.0) for e in episodes) / len(episodes)
        for name in names
    }
    return {
        "mean_return": mean,
        "min_return": min(returns),
        "max_return": max(returns),
        "std_return": float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0,
        "n_episodes": len(episodes),
        "ci95": list(interval) if interval else None,
        "ci95_method": METHOD if interval else None,
        "mean_length": sum(e.length for e in episodes) / len(episodes),
        "by_option": by_option,
        "metrics": metrics,
    }


def _interval(episodes: Sequence[Episode], listed_keys: Sequence[str]) -> Ends | None:
    """The interval of the mean return.

    The values of a lesson are taken in order, each as often as the lesson says. So their effect on
    the return is not random, and does not widen the interval.
    """
    groups: dict[tuple[str, ...], list[float]] = {}
    for e in episodes:
        key = tuple(str(e.options[name]) for name in listed_keys)
        groups.setdefault(key, []).append(e.episode_return)
    if len(groups) > 1 and all(len(group) >= MIN_VALUES for group in groups.values()):
        shares = [len(group) / len(episodes) for group in groups.values()]
        return strata_interval(list(groups.values()), shares)
    return mean_interval([e.episode_return for e in episodes])
