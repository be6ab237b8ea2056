"""The resolver of bare machines, in their network: ``… names METADATA GOOGLE HOST...``.

The hosts are at Google's address. Every other name is somewhere on the internet, to which no way
leads. A line on standard input silences it, or lets it speak again; it ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping

ELSEWHERE = "203.0.113.10"
"""An address for documentation (RFC 5737), which no machine has."""


def answer(question: bytes, addresses: Mapping[str, str]) -> bytes:
    """Returns an answer with one address, or with none for another kind of record.

    Args:
        question: A packet.
        addresses: Name to address.

    Raises:
        IndexError: The packet ends within a name.
    """
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    asked = question[12 : at + 5]
    is_address = asked[-4:] == b"\0\1\0\1"
    head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, int(is_address), 0, 0)
    if not is_address:
        return head + asked
    address = addresses.get(".".join(labels), ELSEWHERE)
    return head + asked + struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)


def main(metadata: str, google: str, hosts: list[str]) -> None:
    """Answers until its input ends."""
    addresses = {**dict.fromkeys(hosts, google), "metadata.google.internal": metadata}
    speaking = threading.Event()
    speaking.set()

    def listen() -> None:
        for line in sys.stdin:
            (speaking.clear if line.strip() == "silent" else speaking.set)()
        os._exit(0)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind((metadata, 53))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Thread(target=listen, daemon=True).start()
        while True:
            question, sender = door.recvfrom(4096)
            if speaking.is_set():
                with contextlib.suppress(IndexError, OSError):
                    door.sendto(answer(question, addresses), sender)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
