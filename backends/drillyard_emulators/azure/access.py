"""Permissions: checks each call's operation against the permissions of a scope.

Names are those of Microsoft's list of operations. Patterns are read as its pages about roles show
it: ``*`` stands for anything, and ``/*/`` also for nothing, since ``workspaces/computes/*/write``
is what takes ``workspaces/computes/write`` from a data scientist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.http.fields import Document, Fields, texts

ML = "Microsoft.MachineLearningServices"
EVERYTHING: Document = {"actions": ["*"], "notActions": []}
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def operation(method: str, parts: list[str]) -> str:
    """The name of a call's operation.

    Args:
        method: HTTP method of the request.
        parts: Parts of the path after the workspace: kinds and names in turn, maybe an action.
    """
    kinds = [part for number, part in enumerate(parts) if number % 2 == 0 and part]
    if method == "POST":  # the last word is the action: jobs/NAME/cancel
        return f"{ML}/workspaces/{'/'.join(kinds)}/action"
    return "/".join((f"{ML}/workspaces", *kinds, _VERBS.get(method, "action")))


def allows(permission: Fields, name: str) -> bool:
    """Whether a permission has an operation, and does not take it out again."""

    def among(patterns: list[str]) -> bool:
        return any(_matches(pattern.lower(), name.lower()) for pattern in patterns)

    return among(texts(permission, "actions")) and not among(texts(permission, "notActions"))


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
        denied: Operations that are refused everywhere, whatever the roles allow.
        asked: Every operation that was asked for, with its scope.
    """

    workspace: list[Document] = field(default_factory=lambda: [EVERYTHING])
    subscription: list[Document] = field(default_factory=lambda: [EVERYTHING])
    identity: list[Document] = field(default_factory=lambda: [EVERYTHING])
    denied: set[str] = field(default_factory=set)
    asked: set[tuple[str, str]] = field(default_factory=set)

    def given(self, scope: str) -> list[Document]:
        """What the service lists for a scope."""
        permissions: list[Document] = getattr(self, scope)
        return [
            {
                **permission,
                "notActions": [*texts(permission, "notActions"), *sorted(self.denied)],
                "dataActions": [],
                "notDataActions": [],
            }
            for permission in permissions
        ]

    def need(self, scope: str, name: str) -> None:
        """Refuse a call whose operation is in no role.

        Raises:
            Denied: 403.
        """
        self.asked.add((scope, name))
        if any(allows(permission, name) for permission in self.given(scope)):
            return
        raise Denied(
            403,
            "AuthorizationFailed",
            f"The client does not have authorization to perform action '{name}' over scope "
            f"'{scope}' or the scope is invalid.",
        )
