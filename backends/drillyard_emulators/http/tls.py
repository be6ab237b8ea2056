"""Certificates for real host names, from a private authority."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from drillyard.errors import UserError
from drillyard.system.optional_packages import install


class Authority:
    """A certificate authority of one emulator's life; its key never leaves the process.

    Raises:
        UserError: The packages for rehearsals are not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as error:
            raise UserError(
                f"the emulated cloud needs a package that is not installed: {error.name}",
                hint=install("rehearse"),
            ) from error
        self._authority = trustme.CA(organization_name="drillyard emulator")

    def server(self, hosts: Iterable[str]) -> ssl.SSLContext:
        """A server's TLS set-up that answers to these host names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*hosts).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def write_pair(self, folder: Path, host: str) -> tuple[Path, Path]:
        """Write a certificate and its key, for a server in a process of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        pair = self._authority.issue_cert(host, "127.0.0.1")
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        pair.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        pair.private_key_pem.write_to_path(key)
        return certificate, key

    def write_bundle(self, path: Path) -> Path:
        """Write what a client trusts: this authority alone, as the proxy refuses all other hosts.

        Clients read the file for each connection, and the web's usual authorities take 20 ms.
        """
        path.write_bytes(self._authority.cert_pem.bytes())
        return path
