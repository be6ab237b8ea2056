"""Certificates of an OPC UA connection: ours, and the one of the server that is trusted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua.client.client import Client
from asyncua.crypto import security_policies, uacrypto
from asyncua.ua import MessageSecurityMode
from asyncua.ua.uaerrors import UaError
from cryptography import x509

from drillyard.errors import SimulatorError

_POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")


@dataclass(frozen=True)
class Security:
    """What signs and encrypts a connection.

    Attributes:
        certificate: The client's certificate.
        key: Its private key.
        fingerprint: SHA-256 of the certificate of the server, as text; None trusts none.
        policy: Name of the security policy.
    """

    certificate: Path
    key: Path
    fingerprint: str | None
    policy: str

    def __post_init__(self) -> None:
        if self.policy not in _POLICIES:
            field = "simulator.args.policy"
            message = "is not a security policy that protects a connection"
            raise SimulatorError(message, field=field, value=self.policy, known=_POLICIES)

    async def secure(self, client: Client) -> None:
        """Makes a client sign and encrypt, for the trusted server only.

        Raises:
            SimulatorError: The server's certificate is another one, or ours cannot be read.
        """
        policy = getattr(security_policies, f"SecurityPolicy{self.policy}")
        mode = MessageSecurityMode.SignAndEncrypt
        endpoints = await client.connect_and_get_server_endpoints()
        try:
            theirs = Client.find_endpoint(endpoints, mode, policy.URI).ServerCertificate
        except UaError as error:
            offered = {str(e.SecurityPolicyUri).rpartition("#")[2] for e in endpoints}
            raise SimulatorError(
                "is not offered by the server together with SignAndEncrypt",
                field="simulator.args.policy",
                value=self.policy,
                allowed=", ".join(sorted(offered)),
                hint="choose one of those other than None, or have the server offer it",
            ) from error
        found = hashlib.sha256(theirs).hexdigest()
        if _plain(self.fingerprint) != found:
            raise SimulatorError(
                "is not that of the certificate that the server shows, so it is not trusted",
                field="simulator.args.fingerprint",
                value=self.fingerprint,
                allowed=found,
                hint="compare these 64 digits with what the operator of the server reads from it "
                "(openssl x509 -inform der -in FILE -noout -fingerprint -sha256); if they are "
                "equal, write them into the file",
            )
        try:
            ours, key = _read(self.certificate), _read(self.key)
            certificate = await uacrypto.load_certificate(ours.path_or_content, ours.extension)
            client.application_uri = _application(certificate) or client.application_uri
            await client.set_security(policy, ours, key, None, theirs, mode)
        except (ValueError, TypeError) as error:
            raise SimulatorError(
                f"and the key cannot be used: {error}",
                field="simulator.args.certificate",
                value=str(self.certificate),
                allowed="a certificate (.der, .pem) and an RSA key without a passphrase",
            ) from error


def _application(certificate: x509.Certificate) -> str:
    """The name of the application in a certificate, which servers compare."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris: list[Any] = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(uris[0]) if uris else ""


def _read(file: Path) -> uacrypto.CertProperties:
    """A file by its content: many keys are PEM under another name."""
    content = file.read_bytes()
    extension = "pem" if b"-----BEGIN" in content else "der"
    return uacrypto.CertProperties(content, extension=extension)


def _plain(fingerprint: str | None) -> str:
    return (fingerprint or "").replace(":", "").strip().lower()
