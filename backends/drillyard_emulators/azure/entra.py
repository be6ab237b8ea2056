"""Microsoft Entra ID: tokens for people (a client's secret) and for jobs (a managed identity)."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from drillyard_emulators.azure.answers import refused
from drillyard_emulators.gcp.project import claims
from drillyard_emulators.http.fields import Document, number
from drillyard_emulators.http.wire import Request, Response

TENANT = "00000000-1111-2222-3333-444444444444"
CLIENT = "55555555-6666-7777-8888-999999999999"
HOST = "login.microsoftonline.com"
RESOURCES = {
    "management": re.compile(r"https://management\.(azure|core\.windows)\.(com|net)/*\Z"),
    "storage": re.compile(r"https://storage\.azure\.com/*\Z"),
    "ml": re.compile(r"https://ml\.azure\.com/*\Z"),
}


@dataclass
class Identity:
    """A managed identity.

    Attributes:
        client: Its client id.
        stores: Whether it may read and write the account's blobs.
        containers: Its role is on these containers alone; None: on the account.
    """

    client: str = field(default_factory=lambda: str(uuid.uuid4()))
    stores: bool = True
    containers: list[str] | None = None


@dataclass
class Entra:
    """One tenant.

    Attributes:
        life_s: How long a token is good for.
        trouble: What it answers instead of tokens: ``AADSTS7000222: …``; empty: nothing is wrong.
        valid_from: A person's tokens issued before are refused, as after a sign-out; a job has an
            identity of its own.
        nodes_busy: Whether a job's request for a token is answered with 429.
        refused: How many questions for a job's token were refused.
    """

    life_s: float = 3600.0
    trouble: str = ""
    valid_from: float = 0.0
    refused: int = 0
    nodes_busy: bool = False
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    identities: dict[str, Identity] = field(default_factory=dict)
    """Managed identities by resource id, in lower case."""
    _jobs: dict[str, tuple[str, Identity | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def env(self) -> dict[str, str]:
        """What a person's environment needs, as for any service principal."""
        return {
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_CLIENT_SECRET": self.secret,
        }

    def __call__(self, request: Request) -> Response:
        """``login.microsoftonline.com``."""
        base = f"https://{HOST}/{TENANT}"
        if request.path.endswith("/.well-known/openid-configuration"):
            return Response.of(
                {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                    "tenant_region_scope": "EU",
                    "cloud_instance_name": "microsoftonline.com",
                }
            )
        if request.path.endswith("/discovery/instance"):
            return Response.of(
                {
                    "tenant_discovery_endpoint": f"{base}/v2.0/.well-known/openid-configuration",
                    "api-version": "1.1",
                    "metadata": [
                        {
                            "preferred_network": HOST,
                            "preferred_cache": HOST,
                            "aliases": [HOST],
                        }
                    ],
                }
            )
        if not request.path.endswith("/oauth2/v2.0/token"):
            return refused(404, "NotFound", "no such page")
        form = dict(parse_qsl(request.body.decode("latin-1")))
        trouble = self.trouble
        if form.get("client_secret") != self.secret:
            trouble = trouble or "AADSTS7000215: Invalid client secret provided."
        if trouble:
            return Response.of({"error": "invalid_client", "error_description": trouble}, 401)
        resource = form.get("scope", "").split()[0].removesuffix("/.default")
        return Response.of(
            {
                "token_type": "Bearer",
                "expires_in": int(self.life_s),
                "access_token": self.issue(resource, CLIENT),
            }
        )

    def identity(self, resource: str) -> Identity | None:
        """A user-assigned identity, by its resource id."""
        return self.identities.get(resource.lower())

    def identity_of(self, job: str, identity: Identity | None) -> dict[str, str]:
        """What a job's environment needs to be itself, beside ``MSI_ENDPOINT``.

        Args:
            job: Its name.
            identity: Identity of its cluster; None if it has none.
        """
        with self._lock:
            secret = secrets.token_urlsafe(16)
            self._jobs[secret] = job, identity
        client = "clientid" if identity is None else identity.client
        return {"MSI_SECRET": secret, "DEFAULT_IDENTITY_CLIENT_ID": client}

    def managed(self, request: Request) -> Response:
        """The endpoint for the identity of a compute cluster, on its nodes.

        A question without the client id is refused, as people report of clusters. On machines with
        single sign-on Microsoft's own tests got a token for the person instead.
        """
        if self.nodes_busy:
            return refused(429, "too_many_requests", "Temporarily throttled, too many requests")
        job, identity = self._jobs.get(request.headers.get("secret", ""), ("", None))
        if identity is None or request.query.get("clientid") != identity.client:
            self.refused += 1
            return refused(400, "invalid_request", "No managed identity of that client id here")
        request.caller = job
        return Response.of(
            {
                "access_token": self.issue(
                    request.query.get("resource", ""), job, identity.stores, identity.containers
                ),
                "expires_on": int(time.time() + self.life_s),
                "token_type": "Bearer",
                "resource": request.query.get("resource", ""),
            }
        )

    def issue(
        self,
        resource: str,
        who: str,
        stores: bool = True,
        containers: Sequence[str] | None = None,
    ) -> str:
        """A token; its signature is not checked here.

        Args:
            resource: For whom it is.
            who: Whom it names.
            stores: Whether that one has a role on the storage account.
            containers: The role is on these containers alone; None: on the account.
        """
        now = int(time.time())
        content: Document = {
            "aud": resource.rstrip("/") or resource,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now - 300,
            "exp": now + max(1, int(self.life_s)),
            "oid": who,
            "appid": who,
            "tid": TENANT,
            "stores": stores,
            "containers": None if containers is None else [*containers],
            "jti": secrets.token_hex(8),
        }
        return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(content)}.x"

    def who(self, request: Request, resource: str) -> str | None:
        """Returns the sender of a request, by its token for a resource; None if unknown."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        content = claims(token)
        if scheme.lower() != "bearer" or not RESOURCES[resource].match(str(content.get("aud"))):
            return None
        since = self.valid_from if content["oid"] == CLIENT else 0.0
        fresh = since <= number(content, "iat") and time.time() < number(content, "exp")
        return str(content["oid"]) if fresh else None

    @staticmethod
    def stores(request: Request) -> bool:
        """Whether the token's owner has a role on the storage account, or on the container."""
        _, _, token = request.headers.get("authorization", "").partition(" ")
        content = claims(token)
        allowed = content.get("containers")
        if isinstance(allowed, list) and request.path.strip("/").partition("/")[0] not in allowed:
            return False
        return bool(content.get("stores", True))


def _part(document: Document) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
