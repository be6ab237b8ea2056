"""The task ``train``: trains one run."""

from __future__ import annotations

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import Phase
from drillyard_tasks.work import work_task


def _describe(summary: JsonObject) -> str:
    steps = summary.get("steps")
    return f"{steps or 0:,} steps, {summary.get('steps_per_s') or 0:,.0f} steps/s"


train = work_task(Phase.TRAIN, _describe)
