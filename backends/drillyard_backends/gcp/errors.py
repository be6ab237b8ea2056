"""The one seam where the errors of google-cloud-compute become ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from drillyard.errors import (
    AccessDenied,
    ControlPlaneError,
    DrillyardError,
    NoCapacity,
    SignInRefused,
)

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from requests import Response

NO_ROOM = frozenset(
    {
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "QUOTA_EXCEEDED",
        "REGION_QUOTA_EXCEEDED",
        "STOCKOUT",
        "INSTANCE_POOL_EXHAUSTED",
        "UNSUPPORTED_OPERATION",
    }
)
"""Codes for a lack of capacity: another zone or machine type may have some."""
_QUOTA_REASONS = {"quotaExceeded"}
_BUSY_REASONS = {"resourceInUseByAnotherResource", "resourceNotReady"}
_LOGIN = "gcloud auth application-default login renews them"
_NO_LOGIN = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
_RIGHTS = "`drillyard plan` lists the missing rights with the commands that grant them"
_POLICY = "a policy of the organization forbids it"
_POLICY_HINT = "ask its administrator for an exception, or change what the constraint names"
_RATE = re.compile(
    r"\b(user)?rateLimitExceeded\b|\bRATE_LIMIT_EXCEEDED\b|\bdailyLimitExceeded\b"
    r"|\blimit '[^']*per ?(second|minute|hour|day|\d+ ?seconds|user)",
    re.IGNORECASE,
)
"""Words of a 403 about the number of requests. A quota of requests has the reason of a quota of
machines (``quotaExceeded``), and differs in its limit: ``Queries per minute``."""
_OF_THE_ACCOUNT = {
    "billing (?:to be enabled|account|disabled)": "link the project to a billing account, which a "
    "free trial has too: https://console.cloud.google.com/billing/linkedaccount",
    "has not been used in project": "switch it on, and wait some minutes: gcloud services enable "
    "compute.googleapis.com storage.googleapis.com",
    r"serviceAccounts\.actAs": "you may not use the machines' account: gcloud iam "
    "service-accounts add-iam-policy-binding EMAIL --member user:YOU --role "
    "roles/iam.serviceAccountUser",
}
"""Google's words in a 403 that no role of drillyard's changes -> the fix. They are no name that a
message repeats, such as ml-billing."""
_QUOTA_NAME = re.compile(r"[Qq]uota '?(?P<name>[A-Z][A-Z0-9_]+)'?")


class Missing(Exception):
    """Nothing of that name. Does not leave the package."""


class Exists(Exception):
    """Something of that name is there already. Does not leave the package."""


class InUse(Exception):
    """It cannot go yet: something uses it, or is changing it. Does not leave the package."""


_MEANINGS: dict[str, type[Exception]] = {
    "RESOURCE_ALREADY_EXISTS": Exists,
    "RESOURCE_NOT_FOUND": Missing,
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": InUse,
    # *Assumed* of operations: requests are answered so (``resourceNotReady``).
    "RESOURCE_NOT_READY": InUse,
}
"""Code of an operation's error to what it means."""


class NoRoom(NoCapacity):
    """There is no capacity: a stock-out, or a quota that the message names."""


def retryable(error: BaseException) -> bool:
    """Returns True for what the same request may get through a moment later.

    The library repeats none of these for a POST, and 503 alone for a GET.
    """
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(error, api.Forbidden):
        return limits_requests(error.response)
    if isinstance(error, auth.RefreshError):
        return bool(getattr(error, "retryable", False))
    return isinstance(
        error,
        api.TooManyRequests
        | api.ServerError
        | api.RetryError
        | auth.TransportError
        | requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.ChunkedEncodingError,
    )


def translate(error: Exception, what: str, project: str) -> Exception:
    """Translates an error of Google's library.

    Args:
        error: The library's error.
        what: Description of the call: ``create group dy-… in europe-west1-b``.
        project: For links.

    Returns:
        ``Missing``, ``Exists``, ``InUse`` or ``NoRoom``, which this package handles, an
        ``AccessDenied`` for what only the user can fix, else a ``ControlPlaneError``.
    """
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(error, DrillyardError):
        return error
    text = _text(error)
    if isinstance(error, api.NotFound) and (error.response is None or is_refusal(error.response)):
        return Missing(text)
    if isinstance(error, api.Conflict):
        return Exists(text)
    if isinstance(error, api.BadRequest) and _is_busy(error, text):
        return InUse(text)
    if isinstance(error, api.Forbidden) and not limits_requests(error.response):
        if _reasons(error) & _QUOTA_REASONS:
            return NoRoom(f"{what}: {text}", hint=quota_hint(text, project))
        return AccessDenied(f"{what}: no permission: {text}", hint=fix_of_refusal(text) or _RIGHTS)
    if isinstance(error, auth.DefaultCredentialsError):
        return SignInRefused(f"{what}: no Google credentials are found here", hint=_NO_LOGIN)
    if isinstance(error, api.Unauthorized | auth.GoogleAuthError) and not retryable(error):
        refused = f"{what}: Google did not accept the credentials: {text}"
        return SignInRefused(refused, hint=_LOGIN)
    if isinstance(error, api.PreconditionFailed) and "constraints/" in text:
        return ControlPlaneError(f"{what}: {_POLICY}: {text}", hint=_POLICY_HINT)
    return ControlPlaneError(
        f"{what}: {text}",
        hint="it was tried again; https://status.cloud.google.com shows outages",
    )


def fix_of_refusal(text: str) -> str | None:
    """Returns the fix of a refusal that is about the account; None: a role may be missing."""
    return next((fix for words, fix in _OF_THE_ACCOUNT.items() if re.search(words, text)), None)


def limits_requests(answer: Response | None) -> bool:
    """Returns whether an answer refuses a request because there were too many of them.

    Google counts requests per minute, so the same request is answered soon. No right is missing.
    """
    if answer is None:
        return False
    # The text of another answer may be a download, which can be read only once.
    return too_many(answer.status_code, answer.text if answer.status_code == 403 else "")


def too_many(status: int, text: str) -> bool:
    """Returns whether a status and the text of its answer mean a rate of requests."""
    return status == 429 or (status == 403 and _RATE.search(text) is not None)


def is_refusal(answer: Response) -> bool:
    """Returns whether an answer is a refusal of Google's APIs, and not a page of a proxy.

    Their refusals are documents with an ``error``. "Not found" from another server proves nothing.
    """
    try:
        document = answer.json()
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(document.get("error"), dict)


def translated(error: Exception, what: str) -> DrillyardError | None:
    """Returns the error to raise outside this package; None if it is not Google's.

    Args:
        error: An error of a library or of this package.
        what: Description of the call.
    """
    if type(error).__module__.partition(".")[0] in ("google", "requests"):
        error = translate(error, what, "")
    if isinstance(error, DrillyardError):
        return error
    look = "the next look tells what became of it"
    if isinstance(error, Missing):
        return ControlPlaneError(f"{what}: Google does not find it: {error}", hint=look)
    if isinstance(error, Exists | InUse):
        return ControlPlaneError(f"{what}: it is being changed: {error}", hint=look)
    return None


class OperationError(Protocol):
    """An error of an operation."""

    code: str
    message: str


def of_operation(errors: Iterable[OperationError], what: str, project: str) -> Exception | None:
    """What the errors of a finished operation mean, or None for none.

    Args:
        errors: ``operation.error.errors`` or ``last_attempt.errors.errors``.
        what: Description of the call.
        project: For links.
    """
    listed = list(errors)
    if not listed:
        return None
    codes = {str(e.code) for e in listed}
    text = "; ".join(f"{e.code}: {e.message}".strip(": ") for e in listed)
    for code, kind in _MEANINGS.items():
        if code in codes:
            return kind(text)
    if codes & NO_ROOM:
        hint = quota_hint(text, project) if any("QUOTA" in code for code in codes) else None
        return NoRoom(f"{what}: {text}", hint=hint or "more zones or machine types help")
    if "CONDITION_NOT_MET" in codes:
        return ControlPlaneError(f"{what}: {_POLICY}: {text}", hint=_POLICY_HINT)
    if any("PERMISSION" in code for code in codes):
        return AccessDenied(f"{what}: {text}", hint="`drillyard plan` lists what is missing")
    return ControlPlaneError(f"{what}: {text}")


def quota_hint(text: str, project: str) -> str:
    """Which quota, and where it is raised."""
    match = _QUOTA_NAME.search(text)
    address = f"https://console.cloud.google.com/iam-admin/quotas?project={quote(project)}"
    if match is None:
        return f"ask for a higher quota: {address}"
    return f"ask for a higher quota {match['name']}: {address}&metric={match['name']}"


def _is_busy(error: GoogleAPICallError, text: str) -> bool:
    return bool(_reasons(error) & _BUSY_REASONS) or "already being used by" in text


def _reasons(error: GoogleAPICallError) -> set[str]:
    reasons = {str(e.get("reason", "")) for e in error.errors or [] if isinstance(e, dict)}
    return reasons | {str(getattr(error, "reason", "") or "")}


def _text(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    # The library puts the request's address in front, which people do not need.
    return re.sub(r"^(?:GET|POST|PUT|PATCH|DELETE) https?://\S+: ", "", text).strip()[:500]
