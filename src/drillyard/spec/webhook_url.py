"""Which addresses a webhook may have."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from drillyard.spec.semantics import is_metadata
from drillyard.system.redaction import has_userinfo


def problem_of(url: str) -> str | None:
    """Why nothing is sent to an address, or None.

    Args:
        url: The address itself, no reference to one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no address of a webhook"
    if has_userinfo(url):
        return "has a user name or password in it"
    if is_metadata(url):
        return "is an address of machine metadata"
    if parts.scheme == "http" and not _loopback(parts.hostname):
        return "would be told in clear over a network"
    return None


def _loopback(host: str) -> bool:
    if host == "localhost" or re.fullmatch(r".+\.localhost", host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
