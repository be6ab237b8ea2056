"""A proxy with TLS, a login and a base path before a server of this machine."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_OF_THE_HOP = ("connection", "content-length", "host", "transfer-encoding", "content-encoding")


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that no system trusts, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a lab's own authority")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=12))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "lab.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def proxied(folder: Path, api: str, login: str, base: str = "/team/prefect") -> Iterator[str]:
    """A proxy of an API, ``…/api``; yields its address.

    Args:
        folder: For ``lab.pem``, which is also what clients have to trust.
        api: Where requests go, without the base path and the login.
        login: The header ``Authorization`` that it demands.
        base: What its address has before ``/api``.
    """
    client = httpx.Client(timeout=60.0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.removeprefix(f"{base}/api")
            if path == self.path:
                return self._answer(404, {}, b"not here")
            if self.headers.get("Authorization") != login:
                return self._answer(401, {}, b"who are you?")
            kept = {k: v for k, v in self.headers.items() if k.lower() not in _OF_THE_HOP}
            kept.pop("Authorization")
            got = client.request(self.command, api + path, headers=kept, content=body)
            return self._answer(got.status_code, dict(got.headers), got.content)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

        def _answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            for name, value in headers.items():
                if name.lower() not in _OF_THE_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}{base}/api"
    finally:
        server.shutdown()
        server.server_close()
        client.close()
