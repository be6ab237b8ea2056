"""``python -m drillyard_backends.azure.job``: the program of one Azure ML job.

It is the same agent as on other backends, with one ticket. It continues with the later phases of
that run, so that a run ends without a driver. When a low-priority node is preempted, Azure starts
the same job again on another node: it closes the attempt of its predecessor, and continues from
the last checkpoint.
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
from typing import Any

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, DrillyardError, InfrastructureError, NotFound
from drillyard.mailbox import open_store
from drillyard.mailbox.driver_lock import MACHINE
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause
from drillyard.mailbox.store import ObjectMissing
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.processes import MARK, ProcessId
from drillyard.system.proxies import spare_loopback
from drillyard.system.redaction import log_to, register_environment
from drillyard.worker.loop import run_worker
from drillyard.worker.push_worker import PushWorker, SocketPusher
from drillyard.worker.worker import Worker
from drillyard_backends.azure import stopped_runs
from drillyard_backends.azure.multi_node import HelperNodeWorker, RayNodeWorker, ray_environment

STORE, ORDER_KEY, TICKET = "DRILLYARD_JOB_STORE", "DRILLYARD_JOB_ORDER", "DRILLYARD_JOB_TICKET"
LOW_PRIORITY, GRACE = "DRILLYARD_JOB_LOW_PRIORITY", "DRILLYARD_JOB_GRACE_S"
SLOTS = "DRILLYARD_JOB_SLOTS"
WIDTH, JOB = "DRILLYARD_JOB_WIDTH", "DRILLYARD_JOB_NAME"
RANK = "NODE_RANK"
"""Azure ML's own variable: which of a job's nodes this is."""
STOPPED_S = 5.0
"""Seconds between two looks at which runs of a job were cancelled."""
log = logging.getLogger("drillyard.job")


def _lost_to() -> Cause:
    """Returns why a node was lost; a dedicated node that is gone has failed."""
    low = os.environ.get(LOW_PRIORITY) == "1"
    return Cause.PREEMPTION if low else Cause.INFRASTRUCTURE


class JobWorker(PushWorker):
    """An agent that Azure starts again under the same name after a preemption."""

    def __init__(self, order: Order, *args: Any, **options: Any) -> None:
        super().__init__(order, *args, **options)
        self._with_hosts = order.hosts > 0 and int(os.environ.get(WIDTH, "1")) > 1

    @property
    def predecessor_lost_to(self) -> Cause:
        """Cause of the loss of the node."""
        return _lost_to()

    def _takes(self, state: TicketState) -> bool:
        """Leaves what follows a training with hosts to a job of one node, if one can be sent.

        Azure bills all nodes of a job until it ends, and only a training uses them.
        """
        follows = state.ticket.phase is not Phase.TRAIN
        return not (self._with_hosts and follows and self.driven) and super()._takes(state)


class NodeWorker(Worker):
    """A node of a job of several runs: it looks for runs, and the job ends if none is left."""

    @property
    def predecessor_lost_to(self) -> Cause:
        """Cause of the loss of the job's nodes."""
        return _lost_to()

    _stopped: frozenset[str] = frozenset()
    _look_at = 0.0

    def _orphans(self) -> Iterator[ProcessId]:
        """Returns nothing: a container is fresh, and others of the lease have their own."""
        return iter(())

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        """Stops the runs that were cancelled one by one; the others go on."""
        now = self.clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + STOPPED_S
            with contextlib.suppress(InfrastructureError):
                self._stopped = stopped_runs.stopped(self._mailbox.store, self.order)
        self._running.stop(now, _lost_to(), "its run was cancelled", runs=self._stopped)
        return super()._claim_some(states)

    def _takes(self, state: TicketState) -> bool:
        return state.ticket.run not in self._stopped and super()._takes(state)


def read_order() -> Order:
    """Returns the order that the job's environment names.

    Raises:
        NotFound: There is no such order.
        StoreUnavailable: The store did not answer for a minute.
    """
    store, key = os.environ[STORE], os.environ[ORDER_KEY]
    try:
        return Order.from_bytes(persist(lambda: open_store(store).get(key)))
    except ObjectMissing:
        raise NotFound(f"there is no order at {store}/{key}") from None


def hand(ticket: str) -> socket.socket:
    """Sends the ticket through a socket; returns the agent's end of the socket.

    When the agent reports that it has finished with the run, the other end is closed, and the
    agent exits.
    """
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps({"ticket": ticket}).encode() + b"\n")

    def wait() -> None:
        with ours, ours.makefile("r", encoding="utf-8") as lines:
            log.info("the run has finished here: %s", lines.readline().strip())

    threading.Thread(target=wait, name="handed", daemon=True).start()
    return theirs


def _maker(order: Order, one_run: bool, rank: str, runs: int) -> Callable[..., Worker]:
    """Returns what makes this node's worker.

    Args:
        order: The order of the lease.
        one_run: Whether all nodes of the job do one run together.
        rank: Number of this node.
        runs: Number of parallel runs of the job otherwise.
    """
    grace_s = float(os.environ.get(GRACE, "20"))
    if one_run and rank != "0":
        helper = HelperNodeWorker if order.hosts else RayNodeWorker
        ticket = os.environ[TICKET]
        return functools.partial(helper, ticket=ticket, term_grace_s=grace_s, paid=True)
    if runs > 1 and not one_run:
        return functools.partial(NodeWorker, term_grace_s=grace_s, paid=True)
    pusher = SocketPusher(hand(os.environ[TICKET]))
    return functools.partial(JobWorker, pusher=pusher, term_grace_s=grace_s)


def main() -> int:
    """Does the ticket; returns the exit code."""
    register_environment()
    spare_loopback()
    log_to(logging.StreamHandler())
    try:
        width = int(os.environ.get(WIDTH, "1"))
        if width > 1 and RANK not in os.environ:
            # Each node would act as the first one, and do the runs of the others again.
            raise ControlPlaneError(f"Azure ML has not set the number of this node ({RANK})")
        rank = os.environ.get(RANK, "0")
        name = os.environ[JOB]
        os.environ.setdefault(MACHINE, f"{name}-{rank}" if width > 1 else name)
        order = read_order()
        os.environ.setdefault(MARK, order.lease_id)
        slots = int(os.environ.get(SLOTS, "1")) if order.spread == 1 else 1
        one_run = width > 1 and (order.spread > 1 or order.hosts > 0)
        make = _maker(order, one_run, rank, width * slots)
        # A child's broken pipe must not end this program.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with (
            ray_environment(order, name, width)
            if one_run and not order.hosts
            else contextlib.nullcontext(),
            tempfile.TemporaryDirectory(prefix="drillyard-") as folder,
        ):
            return run_worker(order, Path(folder) / "work", slots, make=make)
    except DrillyardError as error:
        log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
