"""Write one run's results where people look for them."""

from __future__ import annotations

from typing import Any

from drillyard.mailbox.records import Phase
from drillyard_tasks.work import work_task


def _describe(summary: dict[str, Any]) -> str:
    return f"targets: {summary.get('targets') or 'the mailbox'}"


store = work_task(Phase.STORE, _describe)
