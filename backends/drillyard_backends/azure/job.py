"""``python -m drillyard_backends.azure.job``: the program of one Azure ML job.

The same agent as everywhere, handed one ticket; it goes on with the later phases of that run, so
that a run ends also when nobody drives. When a low-priority node is taken away, Azure starts the
same job again on another one: it buries what its predecessor held, and goes on from the last
checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, DrillyardError, NotFound
from drillyard.mailbox import open_store
from drillyard.mailbox.driver_lock import MACHINE
from drillyard.mailbox.status import Cause
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.processes import MARK, ProcessId
from drillyard.system.redaction import log_to, register_environment
from drillyard.worker.loop import run_worker
from drillyard.worker.push_worker import PushWorker, SocketPusher
from drillyard.worker.worker import Worker
from drillyard_backends.azure.multi_node import HelperNodeWorker, together_on

STORE, ORDER_KEY, TICKET = "DRILLYARD_JOB_STORE", "DRILLYARD_JOB_ORDER", "DRILLYARD_JOB_TICKET"
LOW_PRIORITY, GRACE = "DRILLYARD_JOB_LOW_PRIORITY", "DRILLYARD_JOB_GRACE_S"
WIDTH, JOB = "DRILLYARD_JOB_WIDTH", "DRILLYARD_JOB_NAME"
RANK = "NODE_RANK"
"""Azure ML's own variable: which of a job's nodes this is."""
log = logging.getLogger("drillyard.job")


def _lost_to() -> Cause:
    """A dedicated node that vanished has failed."""
    low = os.environ.get(LOW_PRIORITY) == "1"
    return Cause.PREEMPTION if low else Cause.INFRASTRUCTURE


class JobWorker(PushWorker):
    """An agent that Azure starts again, under the same name, where the node was taken away."""

    @property
    def predecessor_lost_to(self) -> Cause:
        """What took the node."""
        return _lost_to()


class NodeWorker(Worker):
    """One of several in a job: each looks for runs, and the job ends when none finds any."""

    @property
    def predecessor_lost_to(self) -> Cause:
        """What took the job's nodes."""
        return _lost_to()

    def _orphans(self) -> Iterator[ProcessId]:
        """A container is fresh; others of the lease have theirs."""
        return iter(())


def read_order() -> Order:
    """The order that the job's environment names.

    Raises:
        NotFound: It is not there.
    """
    store, key = os.environ[STORE], os.environ[ORDER_KEY]
    try:
        return Order.from_bytes(open_store(store).get(key))
    except ObjectMissing:
        raise NotFound(f"there is no order at {store}/{key}") from None


def hand(ticket: str) -> socket.socket:
    """Hand the one ticket over; what is returned is the agent's end.

    When the agent says that nothing more of its run is done here, the other end is closed, and
    the agent leaves.
    """
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps({"ticket": ticket}).encode() + b"\n")

    def wait() -> None:
        with ours, ours.makefile("r", encoding="utf-8") as words:
            said = words.readline()
            log.info("nothing more to do here: %s", said.strip())

    threading.Thread(target=wait, name="handed", daemon=True).start()
    return theirs


def main() -> int:
    """Do the ticket; the exit code."""
    register_environment()
    log_to(logging.StreamHandler())
    try:
        width = int(os.environ.get(WIDTH, "1"))
        if width > 1 and RANK not in os.environ:
            # Each node would take itself for the first, and do the runs of the others again.
            raise ControlPlaneError(f"Azure ML does not tell this node which one it is ({RANK})")
        rank = os.environ.get(RANK, "0")
        name = os.environ[JOB]
        os.environ.setdefault(MACHINE, f"{name}-{rank}" if width > 1 else name)
        order = read_order()
        os.environ.setdefault(MARK, order.lease_id)
        grace_s = float(os.environ.get(GRACE, "20"))
        together = width > 1 and order.spread > 1
        make: Callable[..., Worker]
        if together and rank != "0":
            make = functools.partial(
                HelperNodeWorker, ticket=os.environ[TICKET], term_grace_s=grace_s, paid=True
            )
        elif width > 1 and not together:
            make = functools.partial(NodeWorker, term_grace_s=grace_s, paid=True)
        else:
            ear = hand(os.environ[TICKET])
            pusher = SocketPusher(ear)
            make = functools.partial(JobWorker, pusher=pusher, term_grace_s=grace_s)
        # What a child leaves behind is not this program's end.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with (
            together_on(order, name, width) if together else contextlib.nullcontext(),
            tempfile.TemporaryDirectory(prefix="drillyard-") as folder,
        ):
            return run_worker(order, Path(folder) / "work", 1, make=make)
    except DrillyardError as error:
        log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
