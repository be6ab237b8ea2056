"""The values of a trial: one for each run, from its evaluation or a curve, and one over seeds."""

from __future__ import annotations

import itertools
import math
import statistics as plain
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, as_numbers, as_object
from drillyard.errors import ConfigError, RunFailed, nearest
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.metrics.reader import StreamReader
from drillyard.spec.study import ObjectiveSpec
from drillyard.statistics import iqm

if TYPE_CHECKING:
    from drillyard.spec import ExperimentSpec

Curve = list[tuple[int, float]]
"""(environment step, value), in order."""
AGENT = "agent"
EVALUATION = "evaluate/"
STREAMS = ("evaluation", "train", "telemetry")
"""The streams that may have a curve, in the order of the search."""


def objectives_of(spec: ExperimentSpec) -> list[ObjectiveSpec]:
    """The objectives of a study; the default of an ``rl`` experiment is the agent's return.

    Raises:
        ConfigError: There is none, and no default for this work.
    """
    assert spec.study is not None
    if spec.study.objectives:
        return list(spec.study.objectives)
    if spec.workload == "rl":
        return [ObjectiveSpec(metric="evaluate/return")]
    raise ConfigError(
        f"a study of the workload {spec.workload!r} needs an objective",
        field="study.objectives",
        allowed="a list of {metric, direction}",
        hint="add `objectives: [{metric: evaluate/score, direction: max}]`",
    )


def evaluated(summary: Mapping[str, Json]) -> dict[str, float]:
    """The numbers of an evaluation by name, without ``evaluate/``.

    Args:
        summary: Summary of the accepted result: ``policies`` for a learner, ``metrics`` for other
            work.
    """
    measured: dict[str, Json] = {}
    agent = as_object(summary.get("policies")).get(AGENT)
    if isinstance(agent, dict):
        measured |= as_numbers(agent)
        measured |= as_object(agent.get("metrics"))
        measured["return"] = agent.get("mean_return")
    measured |= as_object(summary.get("metrics"))
    return as_numbers(measured)


def of_run(mailbox: Mailbox, run: str, objectives: Sequence[ObjectiveSpec]) -> dict[str, float]:
    """The values of one run: objective -> value.

    Args:
        mailbox: The experiment.
        run: A run whose evaluation was accepted.
        objectives: The objectives.

    Raises:
        RunFailed: The run did not measure such a metric, or the value is not finite.
    """
    accepted = mailbox.accepted(run, Phase.EVALUATE)
    measured = evaluated(accepted.summary) if accepted is not None else {}
    values = {}
    for objective in objectives:
        metric = objective.metric.removeprefix(EVALUATION)
        ended = objective.metric.startswith(EVALUATION) or objective.reducer == "last"
        if ended and metric in measured:
            value = measured[metric]
        else:
            points = (
                []
                if objective.metric.startswith(EVALUATION)
                else curve(mailbox, run, objective.metric)
            )
            if not points:
                known = sorted({f"{EVALUATION}{name}" for name in measured})
                raise RunFailed(
                    f"{run} did not measure {objective.metric!r}; it measured {', '.join(known)}",
                    hint=nearest(objective.metric, known),
                )
            value = reduce(points, objective.reducer, objective.k)
        if not math.isfinite(value):
            raise RunFailed(f"{run}: {objective.metric} is {value}", hint="correct the metric")
        values[objective.name] = value
    return values


def curve(mailbox: Mailbox, run: str, metric: str) -> Curve:
    """The points of a metric so far, from the first stream that has it; NaN is left out."""
    return CurveReader(mailbox, run, metric).points()


class CurveReader:
    """Reads a curve again and again: each call reads only what is new.

    Args:
        mailbox: The experiment.
        run: The run.
        metric: The metric. Its points come from the first stream that has it; NaN is left out.
    """

    def __init__(self, mailbox: Mailbox, run: str, metric: str) -> None:
        self._reader = StreamReader(mailbox, run)
        self._metric = metric
        self._stream: str | None = None

    def points(self) -> Curve:
        """The points so far."""
        if not self._reader.look():
            return []
        for stream in STREAMS if self._stream is None else (self._stream,):
            points = [
                (int(line["step"]), float(value))
                for line in self._reader.lines(stream)
                if isinstance(value := line["metrics"].get(self._metric), int | float)
            ]
            if points:
                self._stream = stream
                return points
        return []


def reduce(points: Curve, how: str, k: int = 5) -> float:
    """A curve as one number.

    Args:
        points: At least one.
        how: ``last``, ``min``, ``max``, ``mean-of-last`` (of ``k`` points), ``auc``: the area
            under the curve by trapezes, divided by the steps from its first point to its last.
        k: Number of points for ``mean-of-last``.
    """
    values = [value for _, value in points]
    if how == "mean-of-last":
        return plain.fmean(values[-k:])
    if how != "auc":
        return {"last": values[-1], "min": min(values), "max": max(values)}[how]
    width = points[-1][0] - points[0][0]
    if width <= 0:
        return plain.fmean(values)
    pairs = itertools.pairwise(points)
    return math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs) / width


def over_seeds(values: Sequence[float], how: str) -> float:
    """The seeds of a trial as one number.

    Args:
        values: One value for each seed; at least one.
        how: ``mean``, ``median``, ``min``, ``max``, ``iqm``.
    """
    ways: dict[str, Callable[[Sequence[float]], float]] = {
        "mean": plain.fmean,
        "median": plain.median,
        "min": min,
        "max": max,
        "iqm": iqm,
    }
    return float(ways[how](values))


def aggregate(
    by_seed: Mapping[int, Mapping[str, float]], objectives: Sequence[ObjectiveSpec]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """(objective -> value over the seeds, objective -> seed -> value) of a trial.

    Args:
        by_seed: Seed -> its values; empty gives two empty mappings.
        objectives: The objectives, with their rules over seeds.
    """
    if not by_seed:
        return {}, {}
    single = {o.name: {str(s): v[o.name] for s, v in by_seed.items()} for o in objectives}
    return {o.name: over_seeds(list(single[o.name].values()), o.over) for o in objectives}, single


def dominates(
    a: Mapping[str, float], b: Mapping[str, float], objectives: Sequence[ObjectiveSpec]
) -> bool:
    """True where ``a`` is nowhere worse than ``b`` and somewhere better."""
    differences = [o.sign * (a[o.name] - b[o.name]) for o in objectives]
    return all(d >= 0 for d in differences) and any(d > 0 for d in differences)
