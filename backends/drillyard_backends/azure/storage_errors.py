"""The one seam where the errors of azure-storage-blob become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drillyard.errors import CorruptObject, DrillyardError, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.azure.login import SIGN_IN, SIGN_IN_AWAY, away, refusal
from drillyard_backends.buckets import KeyTaken, first_line, unread

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
    "network or address (az storage account network-rule)"
)

_HELD = (
    "a lease or a policy of another program forbids changes: az storage blob lease break ends a "
    "lease"
)


class StoreRefused(StoreUnavailable):
    """The store does not know us, or gives us no right: trying again does not help soon."""


class Changed(StoreUnavailable):
    """What was being read was written meanwhile; read it again."""


@contextlib.contextmanager
def seam(url: str, key: str = "", *, conditional: bool = False) -> Iterator[None]:
    """Translate what comes out of the library.

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
    from azure.core import exceptions as azure

    try:
        yield
    except (DrillyardError, ObjectMissing):
        raise
    except azure.ResourceNotFoundError as error:
        if key and _code(error) in ("BlobNotFound", ""):
            raise ObjectMissing(key) from None
        raise StoreUnavailable(
            f"store {url}: there is no such account or container: {first_line(error)}",
            hint="is the name right? `drillyard run --on azure` makes the container",
        ) from error
    except (azure.ResourceExistsError, azure.ResourceModifiedError) as error:
        if conditional:
            raise KeyTaken from None
        if getattr(error, "status_code", None) == 412 and "lease" not in _code(error).lower():
            raise Changed(f"store {url}: {key} is being written: {first_line(error)}") from error
        raise _unavailable(url, key, error) from error
    except azure.ClientAuthenticationError as error:
        if _code(error) in _NO_RIGHT:
            raise _no_right(url, key, error) from error
        if away(error):
            raise StoreUnavailable(
                f"store {url}: the sign-in did not answer: {refusal(error)}", hint=SIGN_IN_AWAY
            ) from error
        raise StoreRefused(
            f"store {url}: Azure did not accept the sign-in: {refusal(error)}", hint=SIGN_IN
        ) from error
    except (azure.AzureError, OSError) as error:
        if getattr(error, "status_code", None) == 403:
            raise _no_right(url, key, error) from error
        if "MD5 mismatch" in str(error):
            raise CorruptObject(f"store {url}: {key} was damaged on its way") from error
        raise _unavailable(url, key, error) from error
    except Exception as error:
        # The library read an answer that has not the form which it expects.
        raise unread(url, key, f"{type(error).__name__}: {first_line(error)}") from error


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
