"""Artifact Registry as machines use it: images by their digest, for those who may read them.

It answers the part of the OCI distribution specification that a pull uses, from an OCI layout.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from drillyard_emulators.gcp.project import Project
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal, Request, Response

HOST = "europe-west1-docker.pkg.dev"
_READ = "artifactregistry.repositories.downloadArtifacts"
_ASKED = re.compile(r"/v2/(.+)/(manifests|blobs)/sha256:([0-9a-f]{64})\Z")


class Registry:
    """The registry of a region.

    Args:
        project: Knows who may read it.
        layout: Folder with an OCI layout; it may come later.
    """

    def __init__(self, project: Project, layout: Path) -> None:
        self._project, self._layout = project, layout

    def __call__(self, request: Request) -> Response:
        """One request of a client."""
        if request.path == "/v2/token":
            return self._sign_in(request)
        try:
            caller = self._project.identify(request)
        except Refusal:
            where = f'Bearer realm="{request.origin}/v2/token",service="{HOST}"'
            refused = _refused(401, "UNAUTHORIZED", "authentication failed")
            refused.headers["WWW-Authenticate"] = where
            return refused
        asked = _ASKED.match(request.path)
        if asked is None:
            return Response.of({}) if request.path == "/v2/" else _refused(404, "NAME_UNKNOWN", "")
        if not self._project.may(caller, _READ, asked[1]):
            text = f'Permission "{_READ}" denied on resource "{asked[1]}" (or it may not exist)'
            return _refused(403, "DENIED", text)
        blob = self._layout / "blobs" / "sha256" / asked[3]
        if not blob.is_file():
            return _refused(404, "MANIFEST_UNKNOWN", f"no image sha256:{asked[3]}")
        data, kind = blob.read_bytes(), "application/octet-stream"
        if asked[2] == "manifests":
            kind = str(json.loads(data)["mediaType"])
        return Response(
            200, data, {"Content-Type": kind, "Docker-Content-Digest": f"sha256:{asked[3]}"}
        )

    def policy(self, _: Request) -> Response:
        """Who may read a repository, as ``artifactregistry.googleapis.com`` tells people."""
        member = f"serviceAccount:{self._project.worker}"
        binding: Document = {"role": "roles/artifactregistry.reader", "members": [member]}
        return Response.of({"bindings": [] if _READ in self._project.denied else [binding]})

    def _sign_in(self, request: Request) -> Response:
        """An access token as the password of ``oauth2accesstoken``, for a token to pull with."""
        _, _, given = request.headers.get("authorization", "").partition(" ")
        token = base64.b64decode(given).decode().partition(":")[2]
        request.headers["authorization"] = f"Bearer {token}"
        self._project.identify(request)
        return Response.of({"token": token, "expires_in": 3600})


def _refused(status: int, code: str, message: str) -> Response:
    error: Document = {"code": code, "message": message}
    return Response.of({"errors": [error]}, status)
