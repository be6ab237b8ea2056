"""A job of several nodes that is one run: the first node trains, the others simulate for it.

They do so as nodes of Ray (RLlib's learners), or as hosts of copies (``simulator.copies_on``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard.learners.rllib.machines import HEAD, MACHINES, RayNode
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import Phase
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.processes import ProcessId
from drillyard.system.redaction import register_secret
from drillyard.worker.loop import within
from drillyard.worker.worker import Worker

FIRST, FIRST_PORT = "MASTER_ADDR", "MASTER_PORT"
"""Azure ML's own variables: the first node, and a port that is free there."""
DELETE_S = 5.0
"""Seconds that the end of a job waits for a store that may be unavailable."""
LOOK_S = 15.0
"""Seconds between two looks at the records of the first node."""
SILENT_S = 600.0
"""Seconds without a heartbeat after which the first node counts as ended. Before it starts, its
container may be prepared for minutes longer than those of the others."""
_ENDED = ("failed", "leaving")
_TOKEN, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
"""Ray's own variables: a node needs the same token to join."""


class FirstNode:
    """The first node of a job of several nodes, as the others see it in the mailbox.

    Args:
        mailbox: The experiment.
        node: Name of one of the other nodes.
        clock: The store's time.
    """

    def __init__(self, mailbox: Mailbox, node: str, clock: Clock) -> None:
        self._mailbox = mailbox
        self._host = f"{node.rpartition('-')[0]}-0"
        self._clock = clock
        self._began_at = clock.now()
        self._cache: WorkerCache = {}
        self._beat = ("", 0.0)
        """The newest heartbeat that was seen: its worker, and when it was written."""
        self._seen = self._next = clock.monotonic()
        self._ended = False

    def ended(self) -> bool:
        """Returns whether it has ended, or was silent for long; reads at most every few seconds.

        A record from before this node began may be of an earlier start of the same job.
        """
        now = self._clock.monotonic()
        if now >= self._next and not self._ended:
            self._next = now + LOOK_S
            there = self._mailbox.workers(self._cache, settled=_ENDED)
            workers = [w for w in there if w.host == self._host and w.written_at >= self._began_at]
            newest = max(workers, key=lambda w: w.written_at, default=None)
            if newest is not None and (newest.worker, newest.written_at) != self._beat:
                self._beat, self._seen = (newest.worker, newest.written_at), now
            silent = now - self._seen >= SILENT_S
            self._ended = silent or (newest is not None and newest.state in _ENDED)
        return self._ended


class HelperNodeWorker(Worker):
    """A node of a job that is one run, and not its first: it does no ticket.

    It ends with the training, and with the first node of its own job: the training may belong to
    another job, which has helpers of its own.

    Args:
        order: The order of the lease.
        scratch: Local folder for the code.
        slots: See ``Worker``; it does no ticket.
        clock: Clock.
        ticket: The ticket of the run.
        **options: See ``Worker``.
    """

    def __init__(
        self,
        order: Order,
        scratch: Path,
        slots: int | None = None,
        clock: Clock = SYSTEM,
        *,
        ticket: str,
        **options: Any,
    ) -> None:
        plain = order.model_copy(update={"preload": [], "gpus": 0})
        super().__init__(plain, scratch, slots, clock, **options)
        run = ticket.rpartition(".")[0]
        self._copy_hosts.only = run
        self._training = f"{run}.{Phase.TRAIN.value}"
        self._first = FirstNode(self._mailbox, self.heart.record.host, self.clock)

    def _orphans(self) -> Iterator[ProcessId]:
        """Returns nothing, because a container is fresh."""
        return iter(())

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        return 0

    def _idle(self, states: dict[str, TicketState]) -> bool:
        training = states.get(self._training)
        if training is None or training.status.ended:
            return True
        with contextlib.suppress(InfrastructureError):
            return self._first.ended()
        return False


class RayNodeWorker(HelperNodeWorker):
    """A helper node that gives its node to the Ray cluster of the training on the first one."""

    _node: RayNode | None = None

    def close(self) -> None:
        """Stops the node, and ends the processes of this worker."""
        if self._node is not None:
            self._node.close()
        super().close()

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        if self._node is None:
            self._node = RayNode(os.environ[HEAD], self._paths)
        self._node.keep()
        return 0


@contextlib.contextmanager
def ray_environment(order: Order, job: str, width: int) -> Iterator[None]:
    """Sets the address and the token of the training for all nodes.

    Args:
        order: The order of the lease.
        job: Name of the job.
        width: Number of its nodes.
    """
    store = open_store(order.store_url)
    key = f"{order.experiment}/leases/{order.lease_id}/{job}.token"
    # The first node creates it; only readers of the mailbox see it.
    store.put_if_absent(key, secrets.token_hex(32).encode())
    token = store.get(key).decode()
    register_secret(token)
    os.environ |= {
        HEAD: f"{os.environ[FIRST]}:{os.environ[FIRST_PORT]}",
        MACHINES: str(width),
        _TOKEN: token,
        _MODE: "token",
    }
    try:
        yield
    finally:
        within(DELETE_S, lambda: store.delete(key))
