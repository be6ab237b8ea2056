"""The share of a run in a machine: its ports and its GPUs."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
from collections.abc import Iterator, Sequence

from drillyard.system.operating_system import nvidia_gpus

FIRST, LAST = 10_240, 32_768
"""Range of ports, without the last: below the ports of outgoing connections."""
SIZE = 64
"""Ports of one run."""
HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = "DRILLYARD_FIRST_PORT", "DRILLYARD_LAST_PORT"
GPUS = "CUDA_VISIBLE_DEVICES"


@contextlib.contextmanager
def ports(seed: str) -> Iterator[range]:
    """Free ports of the loopback interface that no other run of this machine gets meanwhile.

    The last port of the block is bound, and never listened on. It reserves the block, also against
    other users and programs, and the kernel releases it when this process ends.

    Args:
        seed: Start of the search, so that runs do not all try the same ports first.

    Yields:
        The ports without the last one; empty if no block is free.
    """
    blocks = list(range(FIRST, LAST, SIZE))
    random.Random(seed).shuffle(blocks)
    for first in blocks:
        guard = _bound(first + SIZE - 1)
        if guard is None:
            continue
        with guard:
            own_ports = range(first, first + SIZE - 1)
            if all(_is_free(port) for port in own_ports):
                yield own_ports
                return
    yield range(0)


def _bound(port: int) -> socket.socket | None:
    """A socket bound to a port; None if the port is in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return listener


def _is_free(port: int) -> bool:
    found = _bound(port)
    if found is not None:
        found.close()
    return found is not None


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    given = os.environ.get(GPUS)
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip()]
    return [str(number) for number in range(nvidia_gpus())]


def gpus(devices: Sequence[str], place: int, each: int) -> tuple[str, ...]:
    """The GPUs of one of the runs of a machine; runs share GPUs if there are too few.

    Args:
        devices: All GPUs.
        place: Place of the run among its neighbours, from 0.
        each: Number of GPUs for each run.
    """
    if not devices:
        return ()
    dealt = (devices[(place * each + n) % len(devices)] for n in range(each))
    return tuple(dict.fromkeys(dealt))


def numbers(own: Sequence[str]) -> tuple[int, ...] | None:
    """The GPUs of a run as the driver numbers them; None where names are not numbers: all.

    Args:
        own: Its GPUs.
    """
    return None if not all(name.isdigit() for name in own) else tuple(map(int, own))


def variables(found: range, own: Sequence[str]) -> dict[str, str]:
    """The environment variables with the share of a run.

    Args:
        found: Its ports.
        own: Its GPUs; empty: the variable stays as it is.
    """
    share_variables = {GPUS: ",".join(own)} if own else {}
    if found:
        share_variables |= {FIRST_PORT: str(found[0]), LAST_PORT: str(found[-1])}
    return share_variables
