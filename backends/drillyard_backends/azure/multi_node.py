"""A job of several nodes that is one run: the first does it, the others play for its training."""

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
"""How long the end of a job waits for a store that may be away."""
_TOKEN, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
"""Ray's own: who has not the same token does not join."""


class HelperNodeWorker(Worker):
    """A helper node of a job that is one run: it gives its node to the training on the first one.

    Args:
        order: What was rented.
        scratch: Local folder for the code.
        slots: See ``Worker``; it does no ticket.
        clock: Time.
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
        self._training = f"{ticket.rpartition('.')[0]}.{Phase.TRAIN.value}"
        self._node: RayNode | None = None

    def close(self) -> None:
        """Take the node back, and end what this worker started."""
        if self._node is not None:
            self._node.close()
        super().close()

    def _orphans(self) -> Iterator[ProcessId]:
        """A container is fresh."""
        return iter(())

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        if self._node is None:
            self._node = RayNode(os.environ[HEAD], self._paths)
        self._node.keep()
        return 0

    def _idle(self, states: dict[str, TicketState]) -> bool:
        training = states.get(self._training)
        return training is None or training.status.ended


@contextlib.contextmanager
def together_on(order: Order, job: str, width: int) -> Iterator[None]:
    """Tell the training, and those who join it, where it listens and with which token.

    Args:
        order: What was rented.
        job: Its name.
        width: Its nodes.
    """
    store = open_store(order.store_url)
    key = f"{order.experiment}/leases/{order.lease_id}/{job}.token"
    # Whichever node is first makes it; it goes no further than to those who read the mailbox.
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
