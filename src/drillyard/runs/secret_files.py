"""Files that never travel, by their content: private keys, and variables as in ``.env``."""

from __future__ import annotations

import re

_KEYS = (
    b"PRIVATE KEY-----",  # PEM and OpenSSH, also inside JSON
    b"PRIVATE KEY BLOCK-----",  # PGP
    b"PuTTY-User-Key-File-",
    b"AGE-SECRET-KEY-1",
)
_BINARY = re.compile(
    rb"\x30(?:\x82..|\x81.|[\x20-\x7f])\x02\x01(?:\x03\x30"  # PKCS #12
    rb"|\x00\x02\x82"  # PKCS #1
    rb"|\x00\x30[\x05-\x20]\x06"  # PKCS #8
    rb"|\x01\x04[\x1c-\x42])"  # SEC 1, of elliptic curves
    rb"|\xfe\xed\xfe\xed",  # a Java key store
    re.DOTALL,
)
_VARIABLE = re.compile(rb"(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=\s*(\S.*)?")
_SECRET = re.compile(rb"SECRET|TOKEN|PASSW|CREDENTIAL|(?:^|_)(?:API|ACCESS|PRIVATE)_?KEY")
_PLAIN = re.compile(rb"(?i:[\d\s._+*/()e-]+|true|false|none|yes|no|on|off)(?:\s*#.*)?")
"""A number or a word for yes or no: ``MAX_TOKENS = 20`` is not a secret."""
_LONGEST_ENV = 1 << 16


def secret_in(name: str, data: bytes) -> str | None:
    """Returns what is secret in a file; None if nothing is known to be.

    Args:
        name: Its name, without folders.
        data: Its content.
    """
    if any(mark in data for mark in _KEYS) or _BINARY.match(data):
        return "holds a private key"
    if name.endswith(".env") or name.startswith(".env"):
        return "holds secrets, as its name says"
    return "holds secrets, as .env does" if _is_env(data) else None


def _is_env(data: bytes) -> bool:
    """Whether each line is a variable in capitals, and one of them names a secret."""
    if len(data) > _LONGEST_ENV:
        return False
    lines = [line.strip() for line in data.splitlines()]
    variables = [_VARIABLE.fullmatch(line) for line in lines if line and not line.startswith(b"#")]
    named = [v for v in variables if v and v[2] and _SECRET.search(v[1])]
    return all(variables) and not all(_PLAIN.fullmatch(v[2]) for v in named)
