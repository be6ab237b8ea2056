"""Defects that are put back on purpose, to show that the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Patches = tuple[tuple[str, Any], ...]
DEFECTS: dict[str, Callable[[], Patches]] = {}
"""Name -> what to replace, by dotted name."""


def defect(name: str) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    """Adds a defect to the table."""

    def keep(make: Callable[[], Patches]) -> Callable[[], Patches]:
        DEFECTS[name] = make
        return make

    return keep


def patches_of(name: str | None) -> Patches:
    """What to replace for a defect; nothing for None."""
    return () if name is None else DEFECTS[name]()
