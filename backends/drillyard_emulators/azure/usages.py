"""The listing of quotas, in both forms that are known of it, among rows that must not be read.

``documented`` is that of the example in Microsoft's specification of the API; ``reported`` that of
public scripts which read the real service. Rows of a workspace and of a cluster repeat the names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from drillyard_emulators.http.fields import Document

_ML = "Microsoft.MachineLearningServices"


def rows(
    form: str,
    subscription: str,
    workspace: str,
    families: Iterable[str],
    limit: Callable[[str], int],
    used: Callable[[bool], int],
) -> list[Document]:
    """All rows of a region.

    Args:
        form: ``documented`` or ``reported``.
        subscription: Its id.
        workspace: Id of a workspace, for rows of its own.
        families: Families of sizes, as the list of sizes names them.
        limit: Cores of a family, of ``totalDedicatedCores`` or ``lowPriorityCores``; -1: no limit.
        used: Cores in use, of low priority or dedicated.
    """
    root = f"/subscriptions/{subscription}/usages"
    low, dedicated = limit("lowPriorityCores"), limit("totalDedicatedCores")
    documented = form == "documented"
    listed = [
        _row(root, "totalCores", "Clusters", 7, 100),
        _row(
            root,
            "dedicatedCores",
            "Total Cluster Dedicated Regional vCPUs" if documented else "TotalDedicatedCores",
            used(False),
            dedicated,
        ),
        _row(
            root,
            "lowPriorityCores",
            "Total Cluster LowPriority Regional vCPUs" if documented else "TotalLowPriorityCores",
            used(True),
            low,
        ),
    ]
    for family in sorted(families):
        for kind, cores, most in (
            ("Dedicated", "dedicatedCores", limit(family)),
            ("LowPriority", "lowPriorityCores", -1),
        ):
            name = f"{_spaced(family)} Cluster {kind} vCPUs" if documented else family
            place, in_use = name.replace(" ", "_"), used(kind == "LowPriority")
            counted = "vmFamily" if documented else f"vmFamily/{cores}"
            listed.append(_row(f"{root}/{place}", counted, name, in_use, most))
            for inside, where in (("", "workspaces"), ("/computes/theirs", "workspaces/computes")):
                # Not ours to count: a row of some workspace, and one of some cluster.
                there = f"{workspace}{inside}/usages/{place}"
                listed.append(_row(there, where, name, 3, min(most, 0)))
    return listed


def _row(where: str, kind: str, name: str, current: int, most: int) -> Document:
    return {
        "id": where,
        "type": f"{_ML}/{kind}/usages",
        "currentValue": current,
        "limit": most,
        "name": {"value": name, "localizedValue": name},
        "unit": "Count",
    }


def _spaced(family: str) -> str:
    """``standardDSv2Family`` -> ``Standard DSv2 Family``."""
    middle = re.sub(r"\A[sS]tandard|Family\Z", "", family)
    return f"Standard {middle} Family"
