"""Which names lead to this machine alone; local servers refuse requests that call them otherwise.

The check is against DNS rebinding: a page of another site can point its own name at 127.0.0.1 and
then read the answers, but its browser still sends that name as ``Host``.
"""

from __future__ import annotations

import ipaddress


def is_loopback(name: str) -> bool:
    """True for ``localhost``, a name below it, and a loopback address.

    Args:
        name: A host name or an address, without brackets and port.
    """
    # RFC 6761, section 6.3: names below localhost are loopback as well.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def name_in(host: str) -> str:
    """The name in a ``Host`` header, in lower case, without port, brackets and a last dot."""
    name, _, port = host.lower().rpartition(":")
    if not port.isdecimal():
        name = host.lower()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return name.removesuffix(".")
