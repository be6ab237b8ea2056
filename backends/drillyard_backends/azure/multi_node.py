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
from drillyard.learners.rllib.machines import HEAD, MACHINES, RayNode
from drillyard.mailbox import open_store
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
_TOKEN, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
"""Ray's own variables: a node needs the same token to join."""


class HelperNodeWorker(Worker):
    """A node of a job that is one run, and not its first: it does no ticket.

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

    def _orphans(self) -> Iterator[ProcessId]:
        """Returns nothing, because a container is fresh."""
        return iter(())

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        return 0

    def _idle(self, states: dict[str, TicketState]) -> bool:
        training = states.get(self._training)
        return training is None or training.status.ended


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
