"""The quota of a region, from the rows that Azure ML lists.

Two forms of the same listing are known. The service's specification shows family rows named
``Standard DSv2 Family Cluster Dedicated vCPUs`` of type ``…/vmFamily/usages``. Public scripts and
reports show ``standardDSv2Family`` twice, with different types
(``…/vmFamily/dedicatedCores/usages`` and ``…/vmFamily/lowPriorityCores/usages``), and
``TotalLowPriorityCores``. This module reads both. It ignores rows of single workspaces and
clusters, which repeat the names. A limit below zero means no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from drillyard.documents.json_types import Json, JsonObject, as_integer, as_object

_LOW = ("lowpriority",)
_DEDICATED = ("dedicated",)
_SUFFIX = re.compile(r"(?:cluster)?(?:dedicated|lowpriority)?(?:regional)?(?:vcpus|cores)?\Z")


@dataclass(frozen=True, slots=True)
class Row:
    """Cores of one kind in the region, over the whole subscription.

    Attributes:
        name: Name as the service writes it.
        family: Family of sizes, in letters and digits; empty for the total of the region.
        low_priority: True for low-priority nodes.
        used: Number of cores in use.
        limit: Number of allowed cores; None if there is no limit.
    """

    name: str
    family: str
    low_priority: bool
    used: int
    limit: int | None

    @property
    def free(self) -> int | None:
        """Number of free cores; None if this row does not limit them."""
        return None if self.limit is None else max(0, self.limit - self.used)


def rows(usages: Iterable[JsonObject]) -> list[Row]:
    """Returns the rows that limit clusters of the subscription, without unknown ones.

    Args:
        usages: Rows as the service lists them.
    """
    parsed = (_row(usage) for usage in usages)
    return [row for row in parsed if row is not None]


def of(known: Iterable[Row], family: str, *, low_priority: bool) -> list[Row]:
    """Returns the rows that nodes of a family of sizes count against: its own and the total.

    Args:
        known: All rows.
        family: Family as the list of sizes names it: ``standardFSv2Family``.
        low_priority: True for low-priority nodes.
    """
    families = ("", _squeezed(family))
    return [r for r in known if r.low_priority is low_priority and r.family in families]


def _row(usage: JsonObject) -> Row | None:
    where, kind = str(usage.get("id", "")).lower(), str(usage.get("type", "")).lower()
    name = str(as_object(usage.get("name")).get("value") or "")
    if "/workspaces/" in where or "/workspace" in kind.partition("/")[2]:
        return None
    label = f"{kind.replace('/', ' ')} {_squeezed(name)}"
    low = any(word in label for word in _LOW)
    if not low and not any(word in label for word in _DEDICATED):
        return None  # the number of clusters, for example
    text = _squeezed(name)
    total = "vmfamily" not in kind and (text.startswith("total") or "family" not in text)
    used, limit = _integer(usage.get("currentValue") or 0), _integer(usage.get("limit"))
    if used is None or limit is None:
        return None
    family = "" if total else _SUFFIX.sub("", text)
    return Row(name, family, low, used, None if limit < 0 else limit)


def _integer(value: Json) -> int | None:
    """Returns a number, which may be written as text; None for anything else."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d+", value) else None
    return as_integer(value)


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
