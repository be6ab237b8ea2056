"""The task ``evaluate``: evaluates one run."""

from __future__ import annotations

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import Phase
from drillyard_tasks.work import work_task


def _describe(summary: JsonObject) -> str:
    return f"policy used: {summary.get('policy_used', '?')}"


evaluate = work_task(Phase.EVALUATE, _describe)
