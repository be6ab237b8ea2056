"""The workload ``mock``: a score computed from the tunables, for trying things without cost.

The score is the mean of the squared tunables, each brought to 0…1 (a number by its range, a
category by its place among the values), plus noise, cut to 0…1 and stretched to ``range``: its
lowest point is where every tunable is lowest. In a population, training goes on: a member comes
half the way from the score of the one before it to that of its own tunables.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

from drillyard.documents.json_types import Json, as_number
from drillyard.errors import CorruptObject
from drillyard.findings import Finding, passed, warning
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Manifest, Phase
from drillyard.mailbox.summaries import metric_values
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import space
from drillyard.spec.work import MockSpec
from drillyard.workloads.measured import Measured, announce, finished, save_metrics, writer


class MockWorkload(Measured):
    """Gives a synthetic score."""

    kind = "mock"

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """See ``Workload.check``."""
        del folder
        n = len(space(spec).tunables)
        if not n:
            return [
                warning(
                    "mock",
                    "no tunable is active: the score is the lowest one",
                    "name groups under parameters.tunable_params",
                )
            ]
        return [passed("mock", f"a score of {n} tunable{'s' if n > 1 else ''}")]

    def check_lineage(self, spec: ExperimentSpec) -> None:
        """See ``HandsRunsOn``: any mock goes on from any other."""

    def train(self, context: RunContext) -> PhaseOutcome:
        """Compute the score; a curve on the way where one is asked for."""
        began = time.monotonic()
        if not context.child:
            announce(context)
        spec = context.spec
        mock = spec.mock or MockSpec()
        computed = score(spec, mock, context.run.parameters, context.run.seed, context.run.trial)
        end = persist(lambda: _learned(context, mock, computed))
        streams = writer(context)
        stream, before = ("telemetry", f"{context.child}/") if context.child else ("train", "")
        curves = [before + name for name in mock.metrics]
        pieces = max(1, mock.points)
        for number in range(1, pieces + 1):
            _wait(context, mock.duration_s / pieces)
            if mock.points:
                reached = mock.range[0] + (end - mock.range[0]) * number / mock.points
                streams.append(stream, number, dict.fromkeys(curves, reached))
                if mock.duration_s:
                    streams.flush_soon()  # whoever prunes reads the curve while it grows
            context.progress(step=number, total=pieces, message="mock")
            context.stop.check()
        finished(context, streams)
        metrics = dict.fromkeys(mock.metrics, end)
        return PhaseOutcome(
            files=Manifest(files=save_metrics(context, metrics, {})),
            summary={
                "wall_s": time.monotonic() - began,
                "metrics": {**metrics},
                "parameters": dict(context.run.parameters),
            },
        )


def score(
    spec: ExperimentSpec, mock: MockSpec, parameters: Mapping[str, Json], seed: int, trial: int = 1
) -> float:
    """The score of one run.

    Args:
        spec: The experiment, for its active tunables.
        mock: Range, noise and seed.
        parameters: Values of the tunables.
        seed: Seed of the run, and of the noise if ``mock`` has none.
        trial: Another trial has other noise under the same seed.
    """
    tunables = space(spec).tunables
    parts = [t.unit(parameters[n]) ** 2 for n, t in tunables.items() if n in parameters]
    plain = sum(parts) / len(parts) if parts else 0.0
    if mock.noise:
        chosen = seed if mock.seed is None else mock.seed
        # Seeded by a text, not drawn in turn: a run has its noise whenever it is done.
        source = random.Random() if chosen == "random" else random.Random(f"{chosen}/{trial}")
        plain += source.gauss(0.0, mock.noise)
    low, high = mock.range
    return low + (high - low) * min(1.0, max(0.0, plain))


def _learned(context: RunContext, mock: MockSpec, value: float) -> float:
    """A member of a population moves half the way from the value of its parent.

    The winner's second run keeps its value.
    """
    lineage = context.run.lineage
    if lineage is None or lineage.parent is None:
        return value
    before = run_id(lineage.parent, context.run.seed)
    trained = context.mailbox.accepted(before, Phase.TRAIN)
    if trained is None:
        raise CorruptObject(f"{context.run.run} continues {before}, whose result is missing")
    inherited = as_number(metric_values(trained).get(mock.metrics[0]))
    if inherited is None:
        raise CorruptObject(f"{before} has no metric {mock.metrics[0]!r} to continue from")
    trial = context.mailbox.trial(context.run.trial)
    if trial is not None and trial.of is not None:
        return inherited
    return (inherited + value) / 2


def _wait(context: RunContext, seconds: float) -> None:
    """Let time pass, unless a stop is asked for."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        context.stop.check()
        time.sleep(min(left, 0.05))
