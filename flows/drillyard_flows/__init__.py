"""Flows, commands and the embedded server: every part of drillyard that needs Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drillyard_flows.own_flow import session

__all__ = ["session"]


def __getattr__(name: str) -> Any:
    """Imports ``session`` when it is asked for: most modules here load without Prefect."""
    if name not in __all__:
        raise AttributeError(f"module 'drillyard_flows' has no attribute {name!r}")
    from drillyard_flows.own_flow import session

    return session
