"""The one seam where the errors of google-cloud-storage become ours."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.buckets import KeyTaken, first_line, translating, unread
from drillyard_backends.gcp.errors import fix_of_refusal, limits_requests

_NO_BUCKET = "bucket does not exist"
_TOO_MANY = "it was tried again; Google counts requests per minute"


def seam(url: str, key: str = "") -> AbstractContextManager[None]:
    """Translates what comes out of the library.

    Args:
        url: URL of the store, for messages.
        key: Key of the object.

    Raises:
        ObjectMissing: The object is not there (but its bucket is).
        KeyTaken: A precondition failed.
        CorruptObject: The bytes have another checksum than the bucket says.
        StoreUnavailable: Anything else.
    """
    return translating(url, key, partial(_known, url, key))


def _known(url: str, key: str, error: Exception) -> Exception | None:
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage import exceptions as storage

    broken = storage.InvalidResponse, requests.RequestException, OSError
    where = f" at {key}" if key else ""
    if isinstance(error, api.NotFound):
        return _not_found(url, key, error)
    if isinstance(error, api.PreconditionFailed):
        return KeyTaken()
    if isinstance(error, storage.DataCorruption):
        return CorruptObject(f"store {url}: {key} was damaged on its way: {error}")
    if isinstance(error, auth.GoogleAuthError):
        return _not_signed_in(url, error)
    if not isinstance(error, (api.GoogleAPICallError, api.RetryError, *broken)):
        return None
    # What ended the time for repeats says only that; its cause has Google's words.
    cause = getattr(error, "cause", None) or error
    words = first_line(cause)
    if limits_requests(getattr(cause, "response", None)):
        return StoreUnavailable(f"store {url}{where}: too many requests: {words}", hint=_TOO_MANY)
    if isinstance(error, api.Forbidden):
        return StoreUnavailable(
            f"store {url}: no permission at {key or 'the bucket'}: {words}",
            hint=fix_of_refusal(words)
            or "grant roles/storage.objectAdmin on the bucket to this identity",
        )
    return StoreUnavailable(
        f"store {url}{where}: {words}", hint="it was tried again; check the network connection"
    )


def _not_found(url: str, key: str, error: Exception) -> Exception:
    if "<html" in str(error).lower():
        return unread(url, key, "a page for people, of a proxy on the way?")
    if key and _NO_BUCKET not in str(error):
        return ObjectMissing(key)
    return StoreUnavailable(
        f"store {url}: the bucket does not exist",
        hint="it is made by the first `drillyard run --on gcp`; is its name right?",
    )


def _not_signed_in(url: str, error: Exception) -> StoreUnavailable:
    from google.auth.exceptions import DefaultCredentialsError

    login = "gcloud auth application-default login"
    if isinstance(error, DefaultCredentialsError):
        return StoreUnavailable(
            f"store {url}: no Google credentials are found here",
            hint=f"{login}, or set GOOGLE_APPLICATION_CREDENTIALS",
        )
    return StoreUnavailable(
        f"store {url}: Google did not accept the credentials: {error}", hint=f"{login} renews them"
    )
