"""Who may do what: every call by the name of its operation, against the permissions of a scope.

Names are those of Microsoft's list of operations. Patterns are read as its pages about roles show
it: ``*`` stands for anything, and ``/*/`` also for nothing, since ``workspaces/computes/*/write``
is what takes ``workspaces/computes/write`` from a data scientist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drillyard_emulators.azure.answers import Denied

ML = "Microsoft.MachineLearningServices"
EVERYTHING: dict[str, Any] = {"actions": ["*"], "notActions": []}
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def operation(method: str, parts: list[str]) -> str:
    """The name of a call's operation.

    Args:
        method: Of the request.
        parts: Of the path behind the workspace: kinds and names in turn, maybe an action.
    """
    kinds = [part for number, part in enumerate(parts) if number % 2 == 0 and part]
    if method == "POST":  # the last word is the action: jobs/NAME/cancel
        return f"{ML}/workspaces/{'/'.join(kinds)}/action"
    return "/".join((f"{ML}/workspaces", *kinds, _VERBS.get(method, "action")))


def allows(permission: Mapping[str, Any], name: str) -> bool:
    """Whether a permission has an operation, and does not take it out again."""

    def among(patterns: list[str]) -> bool:
        return any(_matches(pattern.lower(), name.lower()) for pattern in patterns)

    return among(permission.get("actions") or []) and not among(permission.get("notActions") or [])


def _matches(pattern: str, name: str) -> bool:
    literal, *rest = (re.escape(part) for part in pattern.split("*"))
    text = literal
    for part in rest:
        # The slash before a star may be the one behind it: `a/*/b` is `a/b`, too.
        text += (
            f"(?:.*{part}|{part[1:]})" if text.endswith("/") and part[:1] == "/" else f".*{part}"
        )
    return re.fullmatch(text, name) is not None


@dataclass
class Access:
    """Permissions by scope.

    Attributes:
        workspace: Those of the caller in the workspace.
        subscription: Those at the subscription, for what is asked there.
        identity: Those on the user-assigned identities.
        denied: Operations that nobody may do anywhere, whatever roles say.
        asked: Every operation that was asked for, with its scope.
    """

    workspace: list[dict[str, Any]] = field(default_factory=lambda: [EVERYTHING])
    subscription: list[dict[str, Any]] = field(default_factory=lambda: [EVERYTHING])
    identity: list[dict[str, Any]] = field(default_factory=lambda: [EVERYTHING])
    denied: set[str] = field(default_factory=set)
    asked: set[tuple[str, str]] = field(default_factory=set)

    def given(self, scope: str) -> list[dict[str, Any]]:
        """What the service lists for a scope."""
        found: list[dict[str, Any]] = getattr(self, scope)
        return [
            {
                **one,
                "notActions": [*(one.get("notActions") or []), *sorted(self.denied)],
                "dataActions": [],
                "notDataActions": [],
            }
            for one in found
        ]

    def need(self, scope: str, name: str) -> None:
        """Refuse a call whose operation is in no role.

        Raises:
            Denied: 403.
        """
        self.asked.add((scope, name))
        if any(allows(one, name) for one in self.given(scope)):
            return
        raise Denied(
            403,
            "AuthorizationFailed",
            f"The client does not have authorization to perform action '{name}' over scope "
            f"'{scope}' or the scope is invalid.",
        )
