"""The one seam where the errors of azure-storage-blob become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drillyard.errors import CorruptObject, DrillyardError, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.azure.login import SIGN_IN, refusal
from drillyard_backends.buckets import Taken, first_line

_NO_RIGHT = ("AuthorizationFailure", "AuthorizationPermissionMismatch", "AuthorizationFailed",
             "InsufficientAccountPermissions", "PublicAccessNotPermitted")  # fmt: skip


@contextlib.contextmanager
def seam(url: str, key: str = "") -> Iterator[None]:
    """Translate what comes out of the library.

    Args:
        url: Of the store, for messages.
        key: Of the object.

    Raises:
        ObjectMissing: The object is not there (but its container is).
        Taken: A precondition failed.
        CorruptObject: The bytes have another checksum than the answer says.
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
    except (azure.ResourceExistsError, azure.ResourceModifiedError):
        raise Taken from None
    except azure.ClientAuthenticationError as error:
        if _code(error) in _NO_RIGHT:
            raise _no_right(url, key, error) from error
        raise StoreUnavailable(
            f"store {url}: Azure did not accept the sign-in: {refusal(error)}", hint=SIGN_IN
        ) from error
    except (azure.AzureError, OSError) as error:
        where = f" at {key}" if key else ""
        if getattr(error, "status_code", None) == 403:
            raise _no_right(url, key, error) from error
        if "MD5 mismatch" in str(error):
            raise CorruptObject(f"store {url}: {key} was damaged on its way") from error
        raise StoreUnavailable(
            f"store {url}{where}: {first_line(error)}",
            hint="is the network there? It was tried again",
        ) from error


def _no_right(url: str, key: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"store {url}: no permission at {key or 'the container'}: {first_line(error)}",
        hint="grant Storage Blob Data Contributor on the account to this identity",
    )


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", "") or "").rsplit(".", 1)[-1]
