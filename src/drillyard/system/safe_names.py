"""Names that are safe everywhere: files, cloud labels, buckets; and the name of a lease.

Names are computed from drillyard's own ids and never read from a provider. So a creation can be
repeated, and a deletion needs no listing.
"""

from __future__ import annotations

import getpass
import hashlib
import re

_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{i}" for i in range(10)),
    *(f"lpt{i}" for i in range(10)),
}
LEASE = re.compile(r"dy-[0-9a-f]{10}\Z")


def lease_id(store_url: str, experiment: str, ordinal: int) -> str:
    """The name of the n-th lease of an experiment: ``dy-<10 hex>``.

    Args:
        store_url: URL of the store (absolute).
        experiment: The experiment's name.
        ordinal: Counted from 1 over the life of the experiment.
    """
    text = "\0".join((store_url.rstrip("/"), experiment, str(ordinal)))
    return f"dy-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def file_name(text: str, limit: int = 120) -> str:
    """A file name that every system takes, different for different texts.

    Args:
        text: Anything.
        limit: Longest name, characters.
    """
    safe = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-. ")
    if safe.split(".")[0].lower() in _RESERVED:
        safe = f"_{safe}"
    return safe if safe == text and 0 < len(safe) <= limit else _with_hash(safe, text, limit)


def user_name() -> str:
    """The name of the user, for labels; ``unknown`` in a container without users."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def label(text: str, limit: int = 63) -> str:
    """A cloud label or Kubernetes name: ``a-z0-9-``, begins with a letter, at most 63 long.

    Args:
        text: Anything.
        limit: Longest label, characters.
    """
    safe = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    if not safe[:1].isalpha():
        safe = f"x-{safe}".rstrip("-")
    return safe if safe == text and 0 < len(safe) <= limit else _with_hash(safe, text, limit)


def bucket(text: str) -> str:
    """A bucket's or container's name: 3 to 63 of ``a-z0-9-``, begins and ends with one of a-z0-9.

    Args:
        text: Anything.
    """
    safe = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    safe = re.sub(r"-{2,}", "-", safe)  # Azure refuses two dashes in a row
    ok = safe == text and 3 <= len(safe) <= 63 and not safe.startswith("goog")
    return safe if ok else _with_hash(f"b-{safe}" if safe.startswith("goog") else safe, text, 63)


def _with_hash(safe: str, text: str, limit: int) -> str:
    """Eight hexadecimal digits distinguish two texts with the same safe form."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    head = safe[: limit - 9].rstrip("-. ")
    return f"{head}-{digest}" if head else f"x-{digest}"
