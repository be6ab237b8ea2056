"""Allowed addresses of webhooks."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from drillyard.spec.addresses import is_metadata
from drillyard.system.redaction import has_userinfo


def problem_of(url: str) -> str | None:
    """Returns why an address is refused, or None.

    Args:
        url: The address itself, not a reference.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not the address of a webhook"
    if has_userinfo(url):
        return "has a user name or password in it"
    if is_metadata(url):
        return "is an address of machine metadata"
    if parts.scheme == "http" and not _loopback(parts.hostname):
        return "would be sent unencrypted over a network"
    return None


def _loopback(host: str) -> bool:
    if host == "localhost" or re.fullmatch(r".+\.localhost", host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
