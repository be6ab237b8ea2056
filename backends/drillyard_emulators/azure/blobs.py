"""Blob storage: Azurite, Microsoft's own emulator, behind the proxy's faults, log and triggers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import secrets
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from drillyard.errors import InfrastructureError, UserError
from drillyard_emulators.azure.answers import refused
from drillyard_emulators.azure.entra import CLIENT, Entra
from drillyard_emulators.http.tls import Authority
from drillyard_emulators.http.wire import Request, Response

VERSION = "3.35.0"
PLACE = "DRILLYARD_AZURITE"
_LISTENS = re.compile(rb"listens on https://127\.0\.0\.1:(\d+)")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"}


def find() -> list[str]:
    """The command that starts Azurite's blob service.

    Raises:
        UserError: Node.js or Azurite is not installed.
    """
    given = os.environ.get(PLACE)
    homes = [Path(given)] if given else [Path(sys.prefix) / "azurite"]
    for home in homes:
        main = home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        node = shutil.which("node")
        if main.exists() and node is not None:
            return [node, str(main)]
    program = shutil.which("azurite-blob")
    if program is not None and given is None:
        return [program]
    raise UserError(
        "the emulated Azure needs Azurite, which is not installed here",
        # Where `find` looks; on most machines a global installation needs root.
        hint=f"{'' if shutil.which('node') else 'install Node.js 20 or newer; then '}npm install "
        f"--prefix {shlex.quote(str(homes[0]))} azurite@{VERSION}",
    )


class Blobs:
    """The storage of one account.

    Args:
        account: Its name.
        folder: For certificates and what Azurite says.
        authority: Issues its certificate.
        entra: Knows the callers.
        written: Told of each blob that a caller wrote: (caller, ``container/name``).

    Raises:
        UserError: Azurite is not installed.
        InfrastructureError: It did not start.
    """

    def __init__(
        self,
        account: str,
        folder: Path,
        authority: Authority,
        entra: Entra,
        written: Callable[[str, str], None],
    ) -> None:
        self.account, self.folder = account, folder
        self.hierarchical = False
        """Whether the account has real folders, which flat listings show as empty blobs."""
        self._entra, self._written = entra, written
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._local = threading.local()
        self._trust = ssl.create_default_context()
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE
        certificate = authority.write_pair(folder / "azurite", f"{account}.blob.core.windows.net")
        self._errors = (folder / "azurite" / "azurite.log").open("wb")
        # In memory: a rehearsal's mailbox is small, and nothing of it is to stay.
        command = [
            *find(),
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            "0",
            "--cert",
            str(certificate[0]),
            "--key",
            str(certificate[1]),
            "--oauth",
            "basic",
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--inMemoryPersistence",
        ]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{self.key}"},
        )
        self._port = self._wait()
        threading.Thread(target=self._drain, daemon=True, name="azurite").start()

    @property
    def host(self) -> str:
        """As clients address it."""
        return f"{self.account}.blob.core.windows.net"

    def make_container(self, name: str) -> None:
        """Make a container; it may be there."""
        answer = self.ask("PUT", f"/{name}", "restype=container")
        if answer.status not in (201, 409):
            raise InfrastructureError(f"Azurite made no container: {answer.body!r}")

    def read(self, container: str, name: str) -> bytes | None:
        """A blob, or None."""
        answer = self.ask("GET", f"/{container}/{name}")
        return answer.body if answer.status == 200 else None

    def names(self, container: str, prefix: str = "") -> list[str]:
        """Names of all blobs below a prefix."""
        blobs: list[str] = []
        marker = ""
        while True:
            query = f"restype=container&comp=list&prefix={prefix}&marker={marker}"
            text = self.ask("GET", f"/{container}", query).body.decode()
            blobs += re.findall(r"<Name>([^<]+)</Name>", text)
            match = re.search(r"<NextMarker>([^<]+)</NextMarker>", text)
            if match is None:
                return blobs
            marker = match[1]

    def write(self, container: str, name: str, data: bytes) -> None:
        """Write a blob."""
        headers = {"x-ms-blob-type": "BlockBlob"}
        answer = self.ask("PUT", f"/{container}/{name}", body=data, headers=headers)
        if answer.status != 201:
            raise InfrastructureError(f"Azurite took no blob: {answer.body!r}")

    def __call__(self, request: Request) -> Response:
        """One request of a client."""
        request.caller = self._entra.who(request, "storage")
        if request.headers.get("authorization", "").startswith("SharedKey "):
            # With the account's key, as azure-ai-ml sends a build folder; Azurite verifies it.
            request.caller = CLIENT
        if request.caller is None:
            # Azurite knows when a token ends, and nothing of who signed out.
            return refused(401, "InvalidAuthenticationInfo", "The access token is not valid.")
        if not self._entra.stores(request):
            text = (
                "This request is not authorized to perform this operation using this permission."
            )
            return refused(403, "AuthorizationPermissionMismatch", text)
        answer = self._forward(request)
        if self.hierarchical and request.query.get("comp") == "list":
            answer.body = _with_folders(answer.body, request.query)
        whole = request.method == "PUT" and request.query.get("comp", "blocklist") == "blocklist"
        if whole and answer.status == 201 and request.caller and request.path.count("/") > 1:
            self._written(request.caller, request.path.lstrip("/"))
        return answer

    def close(self) -> None:
        """End Azurite."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Ask Azurite as the emulator itself: on no record, and without faults."""
        token = self._entra.issue("https://storage.azure.com", "emulator")
        usual = {"authorization": f"Bearer {token}", "x-ms-version": "2023-11-03"}
        sent = {**usual, **(headers or {})}
        return self._forward(Request(method, self.host, path, {}, query, sent, body))

    def _forward(self, request: Request) -> Response:
        """Ask Azurite, on a connection of this thread's own; it may have closed an idle one."""
        headers = {k: v for k, v in request.headers.items() if k not in _HOP}
        headers["host"] = self.host
        headers["content-length"] = str(len(request.body))
        target = request.path + (f"?{request.query_text}" if request.query_text else "")
        for last in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None or last:
                connection = self._local.connection = http.client.HTTPSConnection(
                    "127.0.0.1", self._port, context=self._trust, timeout=120
                )
            try:
                connection.request(request.method, target, request.body, headers)
                answer = connection.getresponse()
                body = answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                if last:
                    raise
                continue
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
            if request.method == "HEAD" and (length := answer.getheader("Content-Length")):
                kept["Content-Length"] = length
            return Response(answer.status, body, kept)
        raise AssertionError("unreachable")

    def _wait(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match = _LISTENS.search(line)
            if match:
                return int(match[1])
        self._process.wait()
        text = Path(self._errors.name).read_text(errors="replace").strip() or "it said nothing"
        raise InfrastructureError(f"Azurite did not start: {text.splitlines()[-1]}")

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            pass


def _with_folders(listing: bytes, query: Mapping[str, str]) -> bytes:
    """A listing as an account with a hierarchical namespace answers it (azure-docs#57754)."""
    if "delimiter" in query:
        return listing
    prefix, folders = query.get("prefix", "").encode(), set()
    for name in re.findall(rb"<Blob><Name>([^<]+)</Name>", listing):
        parts = name.split(b"/")[:-1]
        folders |= {b"/".join(parts[: n + 1]) for n in range(len(parts))}
    entries = b"".join(
        b"<Blob><Name>%b</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT"
        b"</Last-Modified><Content-Length>0</Content-Length></Properties></Blob>" % name
        for name in sorted(folders)
        if name.startswith(prefix)
    )
    return listing.replace(b"<Blobs>", b"<Blobs>" + entries, 1)
