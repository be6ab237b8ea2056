"""What a permission of Azure allows: patterns of operations, and what they leave out.

Documented: "the wildcard (*) grants access to everything that matches the action string". The
roles of Azure ML show that ``/*/`` also stands for nothing: ``workspaces/computes/*/write`` in the
``NotActions`` of AzureML Data Scientist is what keeps its holders from creating clusters, which is
the operation ``workspaces/computes/write``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from drillyard.documents.json_types import Json, JsonObject, as_list


def allowed(permission: JsonObject, action: str) -> bool:
    """Returns whether a permission has an operation, and does not take it out again.

    Args:
        permission: With ``actions`` and ``notActions``, as the service lists it.
        action: Name of the operation; capitals do not matter.
    """
    return _among(as_list(permission.get("actions")), action) and not _among(
        as_list(permission.get("notActions")), action
    )


def _among(patterns: Sequence[Json], action: str) -> bool:
    return any(_pattern(str(pattern)).fullmatch(action) for pattern in patterns)


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    # Only `*` is special: `[` and `?`, which file names know, are not.
    escaped = re.escape(text).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(escaped, re.IGNORECASE | re.DOTALL)
