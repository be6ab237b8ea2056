"""Tickets as Dask tasks: pushed once, a bounded number at a time, and known by their keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard_backends.dask import worker_proxy
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.worker_proxies import GPU

if TYPE_CHECKING:
    from distributed import Future

ARRIVAL_S = 5.0


class Pusher:
    """The tasks of one lease, as this process pushed them.

    Args:
        door: The cluster.
        order: What was rented.
        limit: Tasks at once; None: all are handed to the scheduler, which then needs no driver
            to go on. A cluster that is not ours alone gets no more than the runs side by side.
    """

    def __init__(self, door: SchedulerAddress, order: Order, limit: int | None) -> None:
        self._door = door
        self._order = order
        self._limit = limit
        self._lock = threading.RLock()
        self._futures: dict[str, Future[str]] = {}
        self._waiting: deque[str] = deque()

    def push(self, ticket: str) -> dict[str, Any]:
        """Hand a ticket to the scheduler, unless it has it; what it is called there."""
        with self._lock:
            old = self._futures.get(ticket)
            if old is not None and old.status != "pending":
                # What is over is forgotten, or the scheduler would answer with it.
                self._forget(ticket)
                old = None
            if old is None and ticket not in self._waiting:
                self._waiting.append(ticket)
            self._fill()
        return {"key": key(self._order.lease_id, ticket), "scheduler": self._door.address}

    def holds(self, ticket: str) -> bool:
        """True while a ticket is on its way or being done, as far as this process knows."""
        with self._lock:
            future = self._futures.get(ticket)
            return ticket in self._waiting or (future is not None and future.status == "pending")

    def cancel(self, ticket: str) -> None:
        """Take a ticket back, also one that another process pushed."""
        self.cancel_all([ticket])

    def cancel_all(self, tickets: list[str]) -> None:
        """Take tickets back."""
        from distributed import Future

        client = self._door.client()
        with self._lock, self._door.seam():
            self._waiting = deque(t for t in self._waiting if t not in set(tickets))
            gone = [self._futures.pop(t, None) for t in tickets]
            futures = [
                future or Future(key(self._order.lease_id, ticket), client)
                for ticket, future in zip(tickets, gone, strict=True)
            ]
            client.cancel(futures, force=True)

    def pump(self) -> None:
        """Hand on what waits for room."""
        with self._lock:
            if self._waiting:
                self._fill()

    def _fill(self) -> None:
        from distributed import fire_and_forget

        client = self._door.client()
        with self._door.seam():
            pending = sum(1 for f in self._futures.values() if f.status == "pending")
            handed: list[Future[str]] = []
            while self._waiting and (self._limit is None or pending < self._limit):
                ticket = self._waiting.popleft()
                future = client.submit(
                    worker_proxy.work,
                    self._order.model_dump_json(),
                    ticket,
                    key=key(self._order.lease_id, ticket),
                    retries=0,
                    pure=False,
                    # Leases that share a cluster take turns: the n-th of each is as urgent.
                    priority=-pending,
                    resources={GPU: self._order.gpus} if self._order.gpus else None,
                )
                # It goes on when this process is gone.
                fire_and_forget(future)
                self._futures[ticket] = future
                handed.append(future)
                pending += 1
                if self._limit is not None:
                    future.add_done_callback(self._next)
            _arrived(client, handed)

    def _next(self, _future: Any) -> None:
        # Without a scheduler there is nothing to hand on; ``pump`` tries again.
        with contextlib.suppress(InfrastructureError):
            self.pump()

    def _forget(self, ticket: str) -> None:
        """Let go of a task that is over, or that was lost with its connection."""
        future = self._futures.pop(ticket)
        if future.client.status == "running":
            with self._door.seam():
                future.client.cancel([future], force=True)


def _arrived(client: Any, futures: list[Future[str]]) -> None:
    """Wait until the scheduler knows what was submitted, which by itself is only on its way.

    Whoever pushed may be killed at the next moment, and believes that the cluster goes on.
    """
    deadline = time.monotonic() + ARRIVAL_S
    while left := {str(f.key) for f in futures if f.status == "pending"}:
        known = client.sync(client.scheduler.get_task_status, keys=sorted(left))
        if all(known.values()) or time.monotonic() >= deadline:
            return  # a scheduler that is lost is found out by who probes
        time.sleep(0.01)


def key(lease: str, ticket: str) -> str:
    """The key of a ticket's task: one name for all processes."""
    return f"drillyard-{ticket}-{lease}"
