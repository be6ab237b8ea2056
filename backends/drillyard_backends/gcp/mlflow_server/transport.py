"""Google's discovery client over the same HTTP library as Google's other clients.

Its own, httplib2, ignores ``HTTPS_PROXY`` without a word where PySocks is missing, and keeps a
list of authorities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from httplib2 import Response


_TIMEOUT_S = 60.0


class RequestsHttp:
    """What ``googleapiclient`` needs of an ``httplib2.Http``.

    Args:
        credentials: Credentials of google-auth; refreshed as needed.
    """

    def __init__(self, credentials: Credentials) -> None:
        from google.auth.transport.requests import AuthorizedSession

        self._session = AuthorizedSession(credentials)

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        **_: object,
    ) -> tuple[Response, bytes]:
        """One request, and its answer whatever it is.

        Raises:
            ConnectionError: No answer; the caller repeats.
        """
        import httplib2
        import requests

        try:
            answer = self._session.request(
                method, uri, data=body, headers=headers, timeout=_TIMEOUT_S
            )
        except requests.RequestException as error:
            # One of the kinds that googleapiclient knows how to repeat.
            raise ConnectionError(str(error)) from error
        head = httplib2.Response({k.lower(): v for k, v in answer.headers.items()})
        head.status, head.reason = answer.status_code, answer.reason
        return head, answer.content

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
