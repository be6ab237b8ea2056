"""Rights: a role is given to a member without touching what others have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
Policy = dict[str, Any]
"""An IAM policy: ``bindings`` of a ``role`` and its ``members``, and the ``etag``."""


def has(policy: Policy, role: str, member: str) -> bool:
    """Returns True if a role is held without a condition."""
    return any(
        b["role"] == role and member in b.get("members", []) and not b.get("condition")
        for b in policy.get("bindings", [])
    )


def holders(policy: Policy, role: str) -> list[str]:
    """Returns who holds a role without a condition; never everybody."""
    return [
        m
        for b in policy.get("bindings", [])
        if b["role"] == role and not b.get("condition")
        for m in b.get("members", [])
        if m not in EVERYBODY
    ]


def open_to(policy: Policy) -> set[str]:
    """Returns who of everybody holds any role."""
    return {m for b in policy.get("bindings", []) for m in b.get("members", [])} & EVERYBODY


def give(policy: Policy, role: str, members: Iterable[str]) -> bool:
    """Adds members to a role; returns False if all of them had it."""
    missing = [member for member in members if not has(policy, role, member)]
    if not missing:
        return False
    for binding in policy.setdefault("bindings", []):
        if binding["role"] == role and not binding.get("condition"):
            binding["members"] += missing
            return True
    policy["bindings"].append({"role": role, "members": missing})
    return True


def take(policy: Policy, members: Iterable[str], role: str = "") -> bool:
    """Takes a role that is held without a condition from members; returns False if none had it.

    Args:
        policy: The policy.
        members: From whom.
        role: The role; empty for all roles, also those with a condition.
    """
    losing, changed = set(members), False
    for binding in policy.get("bindings", []):
        if not role or (binding["role"] == role and not binding.get("condition")):
            changed = changed or not losing.isdisjoint(binding.get("members", []))
            binding["members"] = [m for m in binding.get("members", []) if m not in losing]
    if changed:
        policy["bindings"] = [b for b in policy["bindings"] if b["members"]]
    return changed
