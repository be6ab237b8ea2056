"""The provider's log of a machine, saved before the machine is deleted.

A machine that dies before its agent's first heartbeat leaves nothing in the mailbox. Its serial
port or the agent's own output shows why, and they disappear with the machine.
"""

from __future__ import annotations

import itertools
import logging

from drillyard.backend import Backend, Lease
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectMissing

_LINES = 20_000
_BYTES = 256 * 1024
log = logging.getLogger(__name__)


def silent(mailbox: Mailbox, lease: str) -> bool:
    """True while no worker of a lease was ever ready, so that only its machines have logs.

    Args:
        mailbox: The experiment.
        lease: Its id.
    """
    workers = mailbox.each_worker()
    return not any(w.lease == lease and w.state in ("ready", "leaving") for w in workers)


def path_of(lease: str) -> str:
    """Where the logs of a lease's machines are kept, relative to the experiment's folder."""
    return f"leases/{lease}/agent.log"


def keep(mailbox: Mailbox, backend: Backend, lease: Lease) -> None:
    """Save the provider's logs of a lease without a ready worker; a failure is only logged.

    Args:
        mailbox: The experiment.
        backend: Backend of the lease.
        lease: The lease.
    """
    try:
        if silent(mailbox, lease.lease_id):
            data = "\n".join(_asked(backend, lease)).encode()[-_BYTES:]
            if data:
                mailbox.store.put(mailbox.key(path_of(lease.lease_id)), data + b"\n")
    except (DrillyardError, OSError) as error:
        log.info("the logs of lease %s could not be saved: %s", lease.lease_id, error)


def lines(mailbox: Mailbox, backend: Backend | None, lease: Lease) -> list[str]:
    """The logs of a lease's machines: from the mailbox, else from the provider.

    Args:
        mailbox: The experiment.
        backend: Backend to ask if nothing was saved; None: only the mailbox.
        lease: The lease.

    Raises:
        InfrastructureError: The provider could not be reached.
    """
    try:
        stored = mailbox.store.get(mailbox.key(path_of(lease.lease_id)))
    except ObjectMissing:
        return [] if backend is None else _asked(backend, lease)
    return stored.decode("utf-8", "replace").splitlines()


def _asked(backend: Backend, lease: Lease) -> list[str]:
    return list(itertools.islice(backend.logs(lease, None), _LINES))
