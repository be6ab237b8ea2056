"""The one seam where the errors of azure-core, azure-identity and azure-ai-ml become ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from drillyard.errors import (
    AccessDenied,
    ControlPlaneError,
    DrillyardError,
    NoCapacity,
    SignInRefused,
    UserError,
)
from drillyard_backends.azure.login import SIGN_IN, SIGN_IN_AWAY, away, refusal

_LOOK_AGAIN = "the next look tells what became of it"
_QUOTA = re.compile(
    r"(?<![\w'\"/.-])quotas?(?![\w'\"/-])|CoreQuota|Quota(?:Exceeded|Reached)", re.IGNORECASE
)
"""In Azure's words, and not in a name that they repeat, such as ml-quota-test."""


_OF_THE_SUBSCRIPTION = {
    "MissingSubscriptionRegistration": "az provider register --wait --namespace NAME, with the "
    "namespace that Azure names",
    "ReadOnlyDisabledSubscription": "its credit is used up, or it has ended: upgrade it, or use "
    "another one (az account list)",
    "RequestDisallowedByAzure": "this subscription may use some regions alone: make the workspace "
    "in one of them (az policy assignment list shows allowed locations)",
    "RequestDisallowedByPolicy": "a policy of your organization forbids it: ask its administrator",
}
"""Codes that no role, and no second try, changes -> the fix."""


class Missing(Exception):
    """It does not exist. Does not leave the package."""


class Exists(Exception):
    """Another one of that name is there, or it is being changed. Does not leave the package."""


class Unchanged(Exists):
    """The condition of a request was not met: what it would make is there, in this workspace."""


class Forbidden(AccessDenied):
    """A right is missing; Azure knows the caller."""


@contextlib.contextmanager
def seam(what: str) -> Iterator[None]:
    """Translate what comes out of the libraries.

    Args:
        what: Description of the call: ``create cluster drillyard``.

    Raises:
        Missing: It does not exist.
        Exists: The name is taken by something else; ``Unchanged`` if a condition was not met.
        NoCapacity: A quota.
        SignInRefused: Azure does not know us.
        Forbidden: A right is missing.
        UserError: Only the user can fix it: a refused value.
        ControlPlaneError: Anything else; trying again may help.
    """
    try:
        yield
    except (DrillyardError, Missing, Exists):
        raise
    except Exception as error:
        ours = _of_library(error, what)
        if ours is None:
            raise
        raise ours from error


def translated(error: Exception, what: str) -> DrillyardError | None:
    """What may leave the package for what would leave it; None: not Azure's.

    Args:
        error: An error of a call or of this package.
        what: Description of the call.
    """
    ours = error if isinstance(error, Missing | Exists) else _of_library(error, what)
    if isinstance(ours, Missing):
        return ControlPlaneError(f"{what}: Azure does not find it: {ours}", hint=_LOOK_AGAIN)
    if isinstance(ours, Exists):
        return ControlPlaneError(f"{what}: it is being changed: {ours}", hint=_LOOK_AGAIN)
    return ours


def _of_library(error: Exception, what: str) -> DrillyardError | Missing | Exists | None:
    """See ``seam``; None for what comes from somewhere else."""
    from azure.core import exceptions as azure

    if isinstance(error, azure.ClientAuthenticationError):
        # Also what azure-identity raises when no sign-in of its chain works.
        if away(error):
            return ControlPlaneError(
                f"{what}: the sign-in did not answer: {refusal(error)}", hint=SIGN_IN_AWAY
            )
        return SignInRefused(
            f"{what}: Azure did not accept the sign-in: {refusal(error)}", hint=SIGN_IN
        )
    if isinstance(error, azure.ResourceNotFoundError):
        return _absent(what, error)
    if isinstance(error, azure.HttpResponseError):
        return _of_status(what, error)
    if isinstance(error, azure.AzureError | OSError):
        return ControlPlaneError(
            f"{what}: {_text(error)}", hint="it was tried again; check the network connection"
        )
    if type(error).__module__.startswith("azure."):
        # azure-ai-ml checks what it is given before it sends it.
        return UserError(f"{what}: {_text(error)}")
    return None


def _absent(what: str, error: Exception) -> DrillyardError | Missing:
    code = _code(error)
    if not code:  # each refusal of Azure has one: a proxy's "not found" proves nothing
        return ControlPlaneError(
            f"{what}: not Azure's answer: {_text(error)}",
            hint="is there a proxy between this machine and Azure?",
        )
    if code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
        return UserError(f"{what}: {_text(error)}", hint="az account list shows what you may use")
    if code == "ResourceGroupNotFound":
        return UserError(f"{what}: {_text(error)}", hint="az group list shows the existing groups")
    return Missing(_text(error))


def _of_status(what: str, error: Exception) -> DrillyardError | Missing | Exists:
    status, text = getattr(error, "status_code", None), _text(error)
    if (fix := _OF_THE_SUBSCRIPTION.get(_code(error))) is not None:
        return UserError(f"{what}: Azure refused it: {text}", hint=fix)
    if status == 404:
        return _absent(what, error)
    if status == 401:
        return SignInRefused(f"{what}: Azure did not accept the sign-in: {text}", hint=SIGN_IN)
    if "quota" in _code(error).lower() or _QUOTA.search(text):
        return NoCapacity(f"{what}: {text}", hint="ask for a higher quota in the Azure portal")
    if status == 403:
        return Forbidden(
            f"{what}: no permission: {text}",
            hint="`drillyard plan` lists the missing rights; the role AzureML Data Scientist has "
            "most of them, AzureML Compute Operator those of clusters",
        )
    if status == 412:
        return Unchanged(text)
    if status == 409 or "already exists" in text or "already registered" in text:
        return Exists(text)
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return UserError(f"{what}: Azure refused it: {text}")
    if status == 429:
        response = getattr(error, "response", None)
        wait = getattr(response, "headers", {}).get("Retry-After")
        for_s = f" and asks to wait for {wait} s" if wait else ""
        return ControlPlaneError(
            f"{what}: Azure limits the number of requests (429){for_s}: {text}",
            hint="run the same command again later; jobs continue",
        )
    return ControlPlaneError(f"{what}: {text}", hint="it was tried again; is Azure well?")


def _code(error: Exception) -> str:
    inner = getattr(error, "error", None)
    return str(getattr(inner, "code", "") or "")


def _text(error: Exception) -> str:
    """What people need of an error: Azure's own words, or the first line of the library's."""
    message = getattr(getattr(error, "error", None), "message", None)
    text = str(message or getattr(error, "message", "") or error) or type(error).__name__
    return text.strip().splitlines()[0][:500]
