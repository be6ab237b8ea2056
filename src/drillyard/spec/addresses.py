"""Which addresses drillyard writes to: no credentials, system folders or machine metadata."""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import partial
from urllib.parse import unquote, urlsplit

from drillyard.errors import ConfigError, nearest
from drillyard.registry import names
from drillyard.system.redaction import has_userinfo, redact

_METADATA_HOSTS = {"metadata.google.internal", "metadata", "instance-data", "metadata.azure.com"}
_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){0,3}\Z")
_SYSTEM_FOLDERS = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/root/.ssh",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib",
    "/var/run",
)


def check_store_url(url: str) -> None:
    """Refuse a store or target that is dangerous or that nothing can write to.

    Args:
        url: A folder, ``file:///…``, ``mlflow``, or a scheme that a plug-in brings.

    Raises:
        ConfigError: Credentials, traversal, a system folder, an address of machine metadata, or
            an unknown scheme.
    """
    if has_userinfo(url):
        raise ConfigError(
            "a URL with a user name or password in it",
            value=redact(url),
            allowed="a URL without credentials",
            hint="give credentials in the environment",
        )
    wrong = partial(ConfigError, value=url)
    if not url.strip():
        raise wrong("is empty", allowed="a folder or URL", hint="./results")
    decoded = unquote(unquote(url))
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme and scheme not in names("stores") and scheme != "mlflow":
        allowed = ["a folder", "mlflow", *(f"{n}://…" for n in names("stores") if n != "memory")]
        message = f"scheme {scheme!r} is not one that can be written to"
        raise wrong(
            "an address of machine metadata" if is_metadata(url) else message,
            allowed=", ".join(allowed),
            hint=nearest(scheme, names("stores")) + "; `drillyard list plugins` shows them",
        )
    remote = scheme not in ("", "file")
    path = decoded.split("://", 1)[-1] if scheme else decoded
    if ".." in re.split(r"[/\\]", path) and (scheme or decoded != url):
        raise wrong(
            "leads out of its folder",
            allowed="a path without `..`",
            hint="write the folder directly",
        )
    if not remote and f"{path}/".startswith(tuple(f"{f}/" for f in _SYSTEM_FOLDERS)):
        raise wrong(
            "is a system folder",
            allowed="a folder of your own",
            hint="./drillyard-runs, or a folder in your home",
        )


def is_metadata(url: str) -> bool:
    """True for addresses at which clouds tell a machine its own credentials."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host in _METADATA_HOSTS:
        return True
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        if _NUMBERS.match(host):
            # As the C library reads an address: 2852039166, 0xa9fea9fe, 0251.0376.43518.
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        else:
            address = ipaddress.ip_address(host)
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local) or str(mapped) in ("100.100.100.200", "fd00:ec2::254")
