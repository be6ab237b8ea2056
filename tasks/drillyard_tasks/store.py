"""The task ``store``: copies one run's results to their targets."""

from __future__ import annotations

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import Phase
from drillyard_tasks.work import work_task


def _describe(summary: JsonObject) -> str:
    return f"targets: {summary.get('targets') or 'the mailbox'}"


store = work_task(Phase.STORE, _describe)
