"""The quota of a region, out of the rows that Azure ML lists of it.

Two forms of the same listing are known. The service's specification shows family rows named
``Standard DSv2 Family Cluster Dedicated vCPUs`` of type ``…/vmFamily/usages``. Public scripts and
reports show ``standardDSv2Family`` twice, told apart by type (``…/vmFamily/dedicatedCores/usages``
and ``…/vmFamily/lowPriorityCores/usages``), and ``TotalLowPriorityCores``. Both are read. Rows of
single workspaces and clusters, which repeat the names, are left out. A limit below zero is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_LOW = ("lowpriority",)
_DEDICATED = ("dedicated",)
_SUFFIX = re.compile(r"(?:cluster)?(?:dedicated|lowpriority)?(?:regional)?(?:vcpus|cores)?\Z")


@dataclass(frozen=True, slots=True)
class Row:
    """Cores of one kind in the region, over the whole subscription.

    Attributes:
        name: As the service writes it, for people.
        family: Of sizes, in letters and digits alone; empty: the total of the region.
        low_priority: Of which kind of nodes.
        used: Cores in use.
        limit: Cores that are allowed; None: no limit of its own.
    """

    name: str
    family: str
    low_priority: bool
    used: int
    limit: int | None

    @property
    def free(self) -> int | None:
        """Cores that are left; None: as many as other rows leave."""
        return None if self.limit is None else max(0, self.limit - self.used)


def rows(usages: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows that limit clusters of the subscription; what is not understood is left out.

    Args:
        usages: As the service lists them.
    """
    found = (_row(one) for one in usages)
    return [row for row in found if row is not None]


def of(found: Iterable[Row], family: str, *, low_priority: bool) -> list[Row]:
    """The rows that nodes of a family of sizes count against: the family's, and the total.

    Args:
        found: All rows.
        family: As the list of sizes names it: ``standardFSv2Family``.
        low_priority: Of which kind the nodes are.
    """
    mine = ("", _squeezed(family))
    return [r for r in found if r.low_priority is low_priority and r.family in mine]


def _row(one: Mapping[str, Any]) -> Row | None:
    where, kind = str(one.get("id", "")).lower(), str(one.get("type", "")).lower()
    name = str((one.get("name") or {}).get("value") or "")
    if "/workspaces/" in where or "/workspace" in kind.partition("/")[2]:
        return None
    told = f"{kind.replace('/', ' ')} {_squeezed(name)}"
    low = any(word in told for word in _LOW)
    if not low and not any(word in told for word in _DEDICATED):
        return None  # the number of clusters, and whatever else there may be
    text = _squeezed(name)
    total = "vmfamily" not in kind and (text.startswith("total") or "family" not in text)
    try:
        used, limit = int(one.get("currentValue") or 0), int(one["limit"])
    except (KeyError, TypeError, ValueError):
        return None
    family = "" if total else _SUFFIX.sub("", text)
    return Row(name, family, low, used, None if limit < 0 else limit)


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
