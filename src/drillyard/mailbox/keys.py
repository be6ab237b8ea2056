"""Which keys are allowed, in every store."""

from __future__ import annotations

import re

from drillyard.errors import UserError

_PART = re.compile(r"[A-Za-z0-9_=~+@,-][A-Za-z0-9._=~+@,-]*\Z")
MAX_KEY_BYTES = 1000
"""Google Cloud Storage allows 1024 bytes, Azure Blob 1024 characters; a prefix comes on top."""


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
