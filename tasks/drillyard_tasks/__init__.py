"""The six phases as Prefect tasks, for the flows of drillyard and for your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drillyard_tasks.machines import provision, setup, teardown
    from drillyard_tasks.work import evaluate, store, train

__all__ = ["evaluate", "provision", "setup", "store", "teardown", "train"]


def __getattr__(name: str) -> Any:
    """Imports a task when it is asked for: the modules that need no Prefect load without it."""
    if name not in __all__:
        raise AttributeError(f"module 'drillyard_tasks' has no attribute {name!r}")
    from drillyard_tasks import machines, work

    return getattr(machines if hasattr(machines, name) else work, name)
