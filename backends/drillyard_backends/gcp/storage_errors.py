"""The one seam where the errors of google-cloud-storage become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drillyard.errors import CorruptObject, DrillyardError, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.buckets import KeyTaken, first_line, unread
from drillyard_backends.gcp.errors import limits_requests

_NO_BUCKET = "bucket does not exist"


@contextlib.contextmanager
def seam(url: str, key: str = "") -> Iterator[None]:
    """Translate what comes out of the library.

    Args:
        url: URL of the store, for messages.
        key: Key of the object.

    Raises:
        ObjectMissing: The object is not there (but its bucket is).
        KeyTaken: A precondition failed.
        CorruptObject: The bytes have another checksum than the bucket says.
        StoreUnavailable: Anything else.
    """
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage import exceptions as storage

    try:
        yield
    except (DrillyardError, ObjectMissing):
        raise
    except api.NotFound as error:
        if "<html" in str(error).lower():
            raise unread(url, key, "a page for people, of a proxy on the way?") from error
        if _NO_BUCKET in str(error) or not key:
            raise StoreUnavailable(
                f"store {url}: the bucket does not exist",
                hint="it is made by the first `drillyard run --on gcp`; is its name right?",
            ) from error
        raise ObjectMissing(key) from None
    except api.PreconditionFailed:
        raise KeyTaken from None
    except storage.DataCorruption as error:
        raise CorruptObject(f"store {url}: {key} was damaged on its way: {error}") from error
    except api.Forbidden as error:
        if limits_requests(error.response):
            raise _too_many(url, key, error) from error
        raise StoreUnavailable(
            f"store {url}: no permission at {key or 'the bucket'}: {first_line(error)}",
            hint="grant roles/storage.objectAdmin on the bucket to this identity",
        ) from error
    except auth.DefaultCredentialsError as error:
        raise StoreUnavailable(
            f"store {url}: no Google credentials are found here",
            hint="gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
        ) from error
    except auth.GoogleAuthError as error:
        raise StoreUnavailable(
            f"store {url}: Google did not accept the credentials: {error}",
            hint="gcloud auth application-default login renews them",
        ) from error
    except (
        api.GoogleAPICallError,
        api.RetryError,
        storage.InvalidResponse,
        requests.RequestException,
        OSError,
    ) as error:
        where = f" at {key}" if key else ""
        # What ended the time for repeats says only that; its cause has Google's words.
        cause = getattr(error, "cause", None) or error
        if limits_requests(getattr(cause, "response", None)):
            raise _too_many(url, key, cause) from error
        raise StoreUnavailable(
            f"store {url}{where}: {first_line(cause)}",
            hint="it was tried again; check the network connection",
        ) from error
    except Exception as error:
        # The library read an answer that has not the form which it expects.
        raise unread(url, key, f"{type(error).__name__}: {first_line(error)}") from error


def _too_many(url: str, key: str, error: Exception) -> StoreUnavailable:
    where = f" at {key}" if key else ""
    return StoreUnavailable(
        f"store {url}{where}: too many requests: {first_line(error)}",
        hint="it was tried again; Google counts requests per minute",
    )
