"""Who may talk to whom: one self-signed certificate for a learner, and one token for its hosts.

A host trusts exactly this certificate, whatever the address is by which it reaches the learner; it
proves with the token that it was invited. TLS 1.3 on both sides.
"""

from __future__ import annotations

import datetime
import json
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drillyard.errors import ConfigError, NotFound, UserError
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.optional_packages import install
from drillyard.system.redaction import register_secret

NAME = "drillyard-learner"
"""The name in the certificate; hosts look for it instead of the learner's address."""
_LIFE = datetime.timedelta(days=3650)
_SKEW = datetime.timedelta(days=2)
"""A clock may be wrong, and the pinned certificate is trusted for its content, not its dates."""


@dataclass(frozen=True)
class Invitation:
    """What a host needs to join a learner.

    Attributes:
        address: ``host:port`` of the learner, as the host reaches it.
        certificate: The learner's certificate, PEM.
        token: What the host proves with that it was invited.
        others: Further addresses of the same learner, to try after the first one.
    """

    address: str
    certificate: str
    token: str
    others: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the learner.

        Raises:
            ConfigError: It is not an address.
        """
        return _place(self.address)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Host and port of each address, in the order in which they are tried.

        Raises:
            ConfigError: One of them is not an address.
        """
        return [_place(address) for address in (self.address, *self.others)]

    def context(self) -> ssl.SSLContext:
        """The TLS settings of a host: it trusts this certificate and nothing else.

        Raises:
            UserError: The certificate cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cadata=self.certificate)
        except (ssl.SSLError, ValueError) as error:
            raise UserError(
                f"the certificate in the invitation cannot be read: {error}",
                hint="copy the file of the invitation again, as a whole",
            ) from None
        return context

    def to_json(self) -> str:
        """As the content of a file."""
        content: dict[str, object] = {
            "address": self.address,
            "certificate": self.certificate,
            "token": self.token,
        }
        if self.others:
            content["others"] = list(self.others)
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """An invitation from its file.

        Raises:
            NotFound: There is no such file.
            ConfigError: It is not an invitation.
        """
        content = _content(path, ("address", "certificate", "token"))
        register_secret(content["token"])
        others = json.loads(path.read_text(encoding="utf-8")).get("others") or []
        return cls(
            content["address"],
            content["certificate"],
            content["token"],
            tuple(str(address) for address in others),
        )


@dataclass(frozen=True)
class Identity:
    """The learner's certificate with its key, and the token of its hosts.

    Attributes:
        certificate: PEM.
        key: PEM; it stays on the learner's machine.
        token: Hosts prove with it that they were invited.
    """

    certificate: str
    key: str
    token: str

    @classmethod
    def new(cls) -> Self:
        """Make one.

        Raises:
            UserError: The package that makes certificates is not installed.
        """
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.x509.oid import NameOID
        except ImportError as error:
            raise UserError(
                f"certificates for hosts of copies cannot be made here: {error}",
                hint=install("rl"),
            ) from None
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        token = secrets.token_hex(32)
        register_secret(token)
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
            token,
        )

    def context(self) -> ssl.SSLContext:
        """The TLS settings of the learner."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # OpenSSL reads keys from files only; the folder is ours alone, and gone at once.
        with tempfile.TemporaryDirectory(prefix="drillyard-") as folder:
            path = Path(folder) / "learner.pem"
            write_file(path, self.certificate + self.key, PRIVATE)
            context.load_cert_chain(path)
        return context

    def invitation(self, address: str) -> Invitation:
        """What the hosts are given.

        Args:
            address: ``host:port`` by which they reach this learner.
        """
        return Invitation(address, self.certificate, self.token)

    def to_json(self, address: str) -> str:
        """As the content of a file that only its owner reads.

        Args:
            address: ``host:port`` by which hosts reach this learner.
        """
        content = {"address": address, "certificate": self.certificate, "token": self.token}
        return json.dumps({**content, "key": self.key}, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """An identity from its file.

        Raises:
            NotFound: There is no such file.
            ConfigError: It is not an identity.
        """
        content = _content(path, ("certificate", "key", "token"))
        register_secret(content["token"])
        return cls(content["certificate"], content["key"], content["token"])


def with_port(host: str, port: int) -> str:
    """``host:port``; an IPv6 address is put in brackets.

    Args:
        host: A name or an address.
        port: The port.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            "is not the address of a learner",
            file="invitation",
            field="address",
            value=address,
            allowed="HOST:PORT, such as den.example.org:7700",
            hint="write the address by which the host reaches the learner",
        )
    return host.strip("[]"), int(port)


def _content(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {path}",
            hint="make an invitation: drillyard simulator-host --invite HOST:PORT",
        ) from None
    except (ValueError, OSError):
        content = None
    wrong = not isinstance(content, dict) or any(
        not isinstance(content.get(name), str) or not content[name] for name in names
    )
    if wrong:
        raise ConfigError(
            "is not what `drillyard simulator-host --invite` writes",
            file=str(path),
            allowed=f"JSON with {', '.join(names)}",
            hint="make a new pair of files: drillyard simulator-host --invite HOST:PORT",
        )
    return {name: content[name] for name in names}
