"""Identity tokens for a server on Cloud Run, and MLflow's client sending them.

MLflow takes them from the plug-in ``google-identity`` (``MLFLOW_TRACKING_AUTH`` names
it): a token is made for the very server that is asked, and sent to no other.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlsplit

from drillyard.errors import UserError

AUTH = "google-identity"
_RENEW_S = 300.0
_HOSTS = ".run.app"


class IdentityTokens:
    """Tokens by audience, each kept until five minutes before its end."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def token(self, audience: str) -> str:
        """A token for a server.

        Args:
            audience: Its address, ``https://…run.app``.

        Raises:
            UserError: You are not logged in, or your account has no such tokens.
        """
        with self._lock:
            kept = self._kept.get(audience)
            if kept is None or kept[1] - _RENEW_S < time.time():
                text = _fetched(audience)
                kept = self._kept[audience] = (text, _expiry(text))
            return kept[0]


TOKENS = IdentityTokens()


def _fetched(audience: str) -> str:
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2 import id_token

    try:
        try:
            return str(id_token.fetch_id_token(Request(), audience))
        except google.auth.exceptions.DefaultCredentialsError:
            # A person's login has no tokens for an audience; its own is what gcloud sends, too.
            credentials, _ = google.auth.default()
            credentials.refresh(Request())
            token = getattr(credentials, "id_token", None)
            if token:
                return str(token)
            raise
    except GoogleAuthError as error:
        raise UserError(
            f"no identity token for {audience}: {error}",
            hint="gcloud auth application-default login, or MLFLOW_TRACKING_TOKEN="
            "$(gcloud auth print-identity-token)",
        ) from error


def _expiry(token: str) -> float:
    from google.auth import jwt

    return float(jwt.decode(token, verify=False)["exp"])


def _provider() -> Any:
    from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
    from requests.auth import AuthBase

    class Signed(AuthBase):
        def __call__(self, request: Any) -> Any:
            parts = urlsplit(str(request.url))
            if parts.scheme == "https" and (parts.hostname or "").endswith(_HOSTS):
                token = TOKENS.token(f"https://{parts.hostname}")
                request.headers["Authorization"] = f"Bearer {token}"
            return request

    class Provider(RequestAuthProvider):  # type: ignore[misc]
        def get_name(self) -> str:
            return AUTH

        def get_auth(self) -> Any:
            return Signed()

    return Provider()


def mlflow_auth() -> Any:
    """What MLflow's entry point ``mlflow.request_auth_provider`` calls."""
    return _provider()
