"""Evaluate one run."""

from __future__ import annotations

from typing import Any

from drillyard.mailbox.records import Phase
from drillyard_tasks.work import work_task


def _describe(summary: dict[str, Any]) -> str:
    return f"policy used: {summary.get('policy_used', '?')}"


evaluate = work_task(Phase.EVALUATE, _describe)
