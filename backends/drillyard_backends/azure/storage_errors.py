"""The one seam where the errors of azure-storage-blob become ours."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.azure.login import SIGN_IN, SIGN_IN_AWAY, away, refusal
from drillyard_backends.buckets import KeyTaken, first_line, translating

_NO_RIGHT = (
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationFailed",
    "InsufficientAccountPermissions",
    "PublicAccessNotPermitted",
)
_GRANT = (
    "grant Storage Blob Data Contributor on the account to this identity; a new role takes "
    "up to an hour"
)
_NETWORK = (
    "the account's network rules exclude this machine, and no role changes that: allow its "
    "network or address (az storage account network-rule add)"
)

_HELD = (
    "a lease or a policy of another program forbids changes: az storage blob lease break ends a "
    "lease"
)


class StoreRefused(StoreUnavailable):
    """The store does not know us, or gives us no right: trying again does not help soon."""


class Changed(StoreUnavailable):
    """What was being read was written meanwhile; read it again."""


def seam(url: str, key: str = "", *, conditional: bool = False) -> AbstractContextManager[None]:
    """Translates what comes out of the library.

    Args:
        url: URL of the store, for messages.
        key: Key of the object.
        conditional: Whether the call is one that may find the key taken. The library sets
            conditions of its own, too: a long read of an object that changes is refused.

    Raises:
        ObjectMissing: The object is not there (but its container is).
        KeyTaken: The condition of the request failed.
        Changed: One of the library's failed.
        CorruptObject: The bytes have another checksum than the answer says.
        StoreRefused: No sign-in, or no right.
        StoreUnavailable: Anything else.
    """
    return translating(url, key, partial(_known, url, key, conditional))


def _known(url: str, key: str, conditional: bool, error: Exception) -> Exception | None:
    from azure.core import exceptions as azure

    if isinstance(error, azure.ResourceNotFoundError):
        if key and _code(error) in ("BlobNotFound", ""):
            return ObjectMissing(key)
        return StoreUnavailable(
            f"store {url}: there is no such account or container: {first_line(error)}",
            hint="is the name right? `drillyard run --on azure` makes the container",
        )
    if isinstance(error, azure.ResourceExistsError | azure.ResourceModifiedError):
        return KeyTaken() if conditional else _unchangeable(url, key, error)
    if isinstance(error, azure.ClientAuthenticationError):
        return _not_signed_in(url, key, error)
    if not isinstance(error, azure.AzureError | OSError):
        return None
    if getattr(error, "status_code", None) == 403:
        return _no_right(url, key, error)
    if "MD5 mismatch" in str(error):
        return CorruptObject(f"store {url}: {key} was damaged on its way")
    return _unavailable(url, key, error)


def _unchangeable(url: str, key: str, error: Exception) -> StoreUnavailable:
    if getattr(error, "status_code", None) == 412 and "lease" not in _code(error).lower():
        return Changed(f"store {url}: {key} is being written: {first_line(error)}")
    return _unavailable(url, key, error)


def _not_signed_in(url: str, key: str, error: Exception) -> StoreUnavailable:
    if _code(error) in _NO_RIGHT:
        return _no_right(url, key, error)
    why = refusal(error)
    if away(error):
        return StoreUnavailable(
            f"store {url}: the sign-in did not answer: {why}", hint=SIGN_IN_AWAY
        )
    return StoreRefused(f"store {url}: Azure did not accept the sign-in: {why}", hint=SIGN_IN)


def _unavailable(url: str, key: str, error: Exception) -> StoreUnavailable:
    # The library has a class of its own only for some of Azure's refusals.
    held = getattr(error, "status_code", None) in (409, 412)
    return StoreUnavailable(
        f"store {url}{f' at {key}' if key else ''}: {first_line(error)}",
        hint=_HELD if held else "it was tried again; check the network connection",
    )


def _no_right(url: str, key: str, error: Exception) -> StoreUnavailable:
    return StoreRefused(
        f"store {url}: no permission at {key or 'the container'}: {first_line(error)}",
        hint=_NETWORK if _code(error) == "AuthorizationFailure" else _GRANT,
    )


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")
