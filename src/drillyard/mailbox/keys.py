"""Which keys are allowed, in every store."""

from __future__ import annotations

import hashlib
import re

from drillyard.errors import UserError

_PART = re.compile(r"[A-Za-z0-9_=~+@,-][A-Za-z0-9._=~+@,-]*\Z")
MAX_KEY_BYTES = 1000
"""Google Cloud Storage allows 1024 bytes, Azure Blob 1024 characters; a prefix comes on top."""
MAX_PART = 200
"""Longest part of a key that a name is encoded to; file systems allow 255 bytes."""
_OTHER = re.compile(rb"[^A-Za-z0-9._=~+@,-]|\A\.|~(?=[0-9A-F]{2})")
_ENCODED = re.compile(rb"~([0-9A-F]{2})")


def check_key(key: str) -> str:
    """Returns the key if every store can hold it and it stays inside the store.

    Raises:
        UserError: Empty, too long, absolute, ``..``, or characters outside the allowed set.
    """
    if len(key) > MAX_KEY_BYTES or not all(_PART.match(part) for part in key.split("/")):
        raise UserError(
            f"illegal object key {key!r}",
            hint="parts of A-Z a-z 0-9 . _ = ~ + @ , - separated by '/', none starting with '.'",
        )
    return key


def encoded(name: str) -> str:
    """The key of a file that the user's code named; an allowed name is its own key.

    Other bytes of a part are written as ``~`` and two hexadecimal digits. A part that would be too
    long ends with its hash instead.

    Args:
        name: Parts separated by ``/``; any characters.

    Raises:
        UserError: It has characters that are none: a file name that is not UTF-8.
    """
    return "/".join(map(_encoded, name.split("/")))


def decoded(key: str) -> str:
    """The name whose key this is; a shortened part stays as it is."""
    return "/".join(map(_decoded, key.split("/")))


def _encoded(part: str) -> str:
    try:
        data = part.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the file name {part!a} is not UTF-8", hint="rename the file: no store can keep it"
        ) from None
    text = _OTHER.sub(lambda found: b"~%02X" % found[0][0], data).decode()
    if len(text) <= MAX_PART:
        return text
    digest = hashlib.sha256(data).hexdigest()[:32]
    return f"{text[: MAX_PART - len(digest) - 2]}~~{digest}"


def _decoded(part: str) -> str:
    try:
        return _ENCODED.sub(lambda found: bytes.fromhex(found[1].decode()), part.encode()).decode()
    except UnicodeDecodeError:  # another program named it
        return part
