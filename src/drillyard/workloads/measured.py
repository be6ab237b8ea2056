"""Metrics as the result of a run, for workloads without a policy.

``train`` measures and keeps ``results.json``; ``evaluate`` reads it back, verified, and gives the
numbers that tables, report and tracking show:

    results.json   {"metrics": {name: number}, "texts": {name: text}}
    summary of evaluate: {"metrics": {name: number}, "texts": {…}}
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

from drillyard.documents.json_types import JsonObject, as_object
from drillyard.errors import CorruptObject
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import AttemptStart, FileEntry, Manifest, Phase
from drillyard.metrics.streams import StreamWriter
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec

RESULTS = "results.json"


class Measured:
    """What workloads without a policy share: nothing is chosen, and metrics are the result."""

    def preload(self, spec: ExperimentSpec) -> list[str]:
        """See ``Workload.preload``."""
        del spec
        return [type(self).__module__]

    def freeze(self, spec: ExperimentSpec, seed: int) -> JsonObject:
        """See ``Workload.freeze``: nothing is chosen."""
        del spec, seed
        return {}

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        """See ``Workload.evaluate``."""
        return evaluate_metrics(context)


def announce(context: RunContext) -> None:
    """Say that this attempt took over from nothing; readers of streams look for it."""
    start = AttemptStart(
        attempt=context.attempt,
        worker=context.claim.worker,
        host=platform.node(),
        started_at=context.clock.now(),
    )
    persist(lambda: context.mailbox.write(f"{context.folder}/start.json", start))


def writer(context: RunContext) -> StreamWriter:
    """A writer that goes on behind what other children of a composite have written."""
    return StreamWriter(
        context.mailbox,
        context.run.run,
        context.attempt,
        offsets=context.lines,
        clock=context.clock,
        usage=context.usage,
    )


def finished(context: RunContext, streams: StreamWriter) -> None:
    """Write the last lines, and let the next child go on behind them."""
    streams.append_usage()
    context.lines.update(persist(streams.flush))


def file_name(context: RunContext, name: str) -> str:
    """The name of a result: that of a child stands below ``children/<child>/``."""
    return f"children/{context.child}/{name}" if context.child else name


def save(context: RunContext, name: str, data: bytes | Path) -> dict[str, FileEntry]:
    """Write a file of the result; its entry for the manifest."""
    full = file_name(context, name)
    return {full: context.save(full, data)}


def save_metrics(
    context: RunContext, metrics: Mapping[str, float], texts: Mapping[str, str]
) -> dict[str, FileEntry]:
    """Write ``results.json``."""
    data = {"metrics": dict(metrics), "texts": dict(texts)}
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    return save(context, RESULTS, text.encode())


def evaluate_metrics(context: RunContext) -> PhaseOutcome:
    """The evaluate phase: the metrics of the accepted training, verified.

    Raises:
        NotFound: The run has no accepted training.
        CorruptObject: Its files are missing or changed.
    """
    results = persist(lambda: read_metrics(context))
    for name, value in as_object(results["metrics"]).items():
        context.log.info("%s = %.6g", name, value)
    return PhaseOutcome(files=Manifest(), summary=results)


def read_metrics(context: RunContext) -> JsonObject:
    """``results.json`` of the accepted training: ``metrics`` and ``texts``.

    Raises:
        NotFound: The run has no accepted training.
        CorruptObject: Its files are missing or changed.
    """
    manifest = context.mailbox.result(context.run.run, Phase.TRAIN)
    data = json.loads(context.mailbox.read_file(manifest, file_name(context, RESULTS)))
    if not isinstance(data, dict) or not isinstance(data.get("metrics"), dict):
        raise CorruptObject(f"{file_name(context, RESULTS)} of {context.run.run} has no metrics")
    return {"metrics": data["metrics"], "texts": data.get("texts") or {}}
