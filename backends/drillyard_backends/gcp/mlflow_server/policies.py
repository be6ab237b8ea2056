"""Rights: a role is given to a member without touching what others have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drillyard_backends.gcp.mlflow_server.google import Exists, Google

if TYPE_CHECKING:
    from googleapiclient.http import HttpRequest

EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
_TRIES = 8
Policy = dict[str, Any]
"""An IAM policy: ``bindings`` of a ``role`` and its ``members``, and the ``etag``."""


def has(policy: Policy, role: str, member: str) -> bool:
    """Returns True if a role is held without a condition."""
    return any(
        b["role"] == role and member in b.get("members", []) and not b.get("condition")
        for b in policy.get("bindings", [])
    )


def holders(policy: Policy, role: str) -> list[str]:
    """Who holds a role without a condition; never everybody."""
    return [
        m
        for b in policy.get("bindings", [])
        if b["role"] == role and not b.get("condition")
        for m in b.get("members", [])
        if m not in EVERYBODY
    ]


def open_to(policy: Policy) -> set[str]:
    """Who of everybody holds any role."""
    return {m for b in policy.get("bindings", []) for m in b.get("members", [])} & EVERYBODY


def give(policy: Policy, role: str, member: str) -> None:
    """Add a member to a role."""
    for binding in policy.setdefault("bindings", []):
        if binding["role"] == role and not binding.get("condition"):
            if member not in binding["members"]:
                binding["members"].append(member)
            return
    policy["bindings"].append({"role": role, "members": [member]})


def close_to_everybody(policy: Policy) -> None:
    """Take all roles from everybody."""
    for binding in policy.get("bindings", []):
        binding["members"] = [m for m in binding["members"] if m not in EVERYBODY]
    policy["bindings"] = [b for b in policy.get("bindings", []) if b["members"]]


def ensure(
    google: Google,
    read: Callable[[], HttpRequest],
    write: Callable[[Policy], HttpRequest],
    wanted: list[tuple[str, str]],
    closed: bool = False,
) -> bool:
    """Make a policy grant what is wanted; what others wrote meanwhile is kept.

    Args:
        google: Makes the calls.
        read: Makes the request that reads the policy, with its etag.
        write: Makes the request that writes one back.
        wanted: (role, member) each.
        closed: Also take every role from everybody.

    Returns:
        True when it was changed.
    """
    for attempt in range(_TRIES):
        policy = google.call(read())
        missing = [(r, m) for r, m in wanted if not has(policy, r, m)]
        if not missing and not (closed and open_to(policy)):
            return False
        for role, member in missing:
            give(policy, role, member)
        if closed:
            close_to_everybody(policy)
        try:
            google.call(write(policy))
            return True
        except Exists:  # another writer was first: its etag is newer
            if attempt == _TRIES - 1:
                raise
    return False


def drop(
    google: Google,
    read: Callable[[], HttpRequest],
    write: Callable[[Policy], HttpRequest],
    given: tuple[str, str],
) -> None:
    """Take a role from a member; what others wrote meanwhile is kept.

    Args:
        google: Makes the calls.
        read: Makes the request that reads the policy, with its etag.
        write: Makes the request that writes one back.
        given: Role and member.
    """
    role, member = given
    for attempt in range(_TRIES):
        policy = google.call(read())
        if not has(policy, role, member):
            return
        for binding in policy["bindings"]:
            if binding["role"] == role and not binding.get("condition"):
                binding["members"] = [m for m in binding["members"] if m != member]
        policy["bindings"] = [b for b in policy["bindings"] if b["members"]]
        try:
            google.call(write(policy))
            return
        except Exists:
            if attempt == _TRIES - 1:
                raise
