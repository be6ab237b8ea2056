"""The project of the emulated cloud: permissions, and the enabled services."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass, field

from drillyard_emulators.gcp.grants import Grant
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import App, Refusal, Request, Response

SERVICES = (
    "compute.googleapis.com",
    "storage.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "serviceusage.googleapis.com",
)


@dataclass
class Project:
    """One project.

    Attributes:
        project_id: As people write it.
        number: As Google writes it in the links that machines see.
        denied: Permissions that are refused to everyone.
        granted: E-mail of an account -> its roles; one that is not listed may do everything.
        disabled: Services that are switched off.
        accounts: Service accounts that exist, by e-mail.
    """

    project_id: str
    number: str = "123456789012"
    denied: set[str] = field(default_factory=set)
    granted: dict[str, list[Grant]] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.user = f"user@{self.project_id}.iam.gserviceaccount.com"
        self.worker = f"worker@{self.project_id}.iam.gserviceaccount.com"
        self.accounts |= {self.user, self.worker}
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def may(self, caller: str | None, permission: str, resource: str) -> bool:
        """Whether a caller has a permission on a resource, by the resource's full name."""
        grants = self.granted.get((caller or "").partition("|")[0])
        return permission not in self.denied and (
            grants is None or any(grant.allows(permission, resource) for grant in grants)
        )

    def need(self, caller: str | None, permission: str, resource: str) -> None:
        """Insist on a permission.

        Raises:
            Refusal: 403.
        """
        if not self.may(caller, permission, resource):
            raise Refusal(403, "forbidden", f"Required '{permission}' permission for '{resource}'")

    def need_service(self, name: str) -> None:
        """Insist that a service is switched on.

        Raises:
            Refusal: 403, with the link that switches it on.
        """
        if name in self.disabled:
            where = f"https://console.developers.google.com/apis/api/{name}/overview"
            text = f"{name} has not been used in project {self.number} before or it is disabled."
            link = f"Enable it by visiting {where}?project={self.number}"
            raise Refusal(403, "accessNotConfigured", f"{text} {link}")

    def issue(self, caller: str) -> str:
        """A new access token; a machine's names it: ``e-mail|machine``."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        with self._lock:
            self._tokens[token] = caller
        return token

    def identify(self, request: Request) -> str:
        """Returns the sender of a request, by its bearer token (ours, or signed by the account).

        Raises:
            Refusal: 401.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if token in self._tokens:
                return self._tokens[token]
            account = str(claims(token).get("iss"))
            if account in self.accounts:
                return account
        raise Refusal(401, "authError", "Invalid Credentials")

    def guarded(self, app: App, service: str = "") -> App:
        """Returns a service that knows its callers, and refuses while it is switched off.

        Args:
            app: The service.
            service: Its name; empty for one that is always on.
        """

        def serve(request: Request) -> Response:
            try:
                # A signed URL carries its right with it.
                if "X-Goog-Signature" not in request.query:
                    request.caller = self.identify(request)
                self.need_service(service)
                return app(request)
            except Refusal as refusal:
                return refusal.response()

        return serve


def machine_of(caller: str | None) -> str | None:
    """The machine that a caller is, by its token; None for people."""
    return caller.partition("|")[2] or None if caller else None


def claims(token: str) -> Document:
    """The claims of a JSON web token; empty for anything else. Its signature is not checked."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        content = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def key_file(project: Project) -> Document:
    """A service-account key that only this emulator honours, as Google writes key files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    # Google's libraries check the key whenever they read it: 40 ms with 2048 bits, 5 with 1024.
    # It opens nothing, so that a short one is as good.
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": project.project_id,
        "private_key_id": "emulated",
        "private_key": key.decode(),
        "client_email": project.user,
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }
