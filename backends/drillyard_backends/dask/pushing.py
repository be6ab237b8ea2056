"""Tickets as Dask tasks: pushed once, a limited number at a time, and identified by keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard.errors import InfrastructureError
from drillyard_backends.dask import worker_proxy
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.worker_proxies import GPU, of_lease

if TYPE_CHECKING:
    from distributed import Client, Future

ARRIVAL_S = 5.0


class Pusher:
    """The tasks of one lease that this process pushed.

    Args:
        scheduler: Address of the cluster's scheduler.
        order: The order of the lease.
        limit: Number of concurrent tasks. None submits all tasks, so that the scheduler needs no
            driver to continue. A shared cluster gets only as many as there are parallel runs.
    """

    def __init__(self, scheduler: SchedulerAddress, order: Order, limit: int | None) -> None:
        self._scheduler = scheduler
        self._order = order
        self._limit = limit
        self._lock = threading.RLock()
        self._futures: dict[str, Future[str]] = {}
        self._waiting: deque[str] = deque()

    def push(self, ticket: str) -> JsonObject:
        """Submits a ticket unless the scheduler has it; returns its key and scheduler."""
        with self._lock:
            old = self._futures.get(ticket)
            if old is not None and old.status != "pending":
                # Forget a finished task, or the scheduler would answer with its result.
                self._forget(ticket)
                old = None
            if old is None and ticket not in self._waiting:
                self._waiting.append(ticket)
            self._fill()
        return {"key": key(self._order.lease_id, ticket), "scheduler": self._scheduler.address}

    def holds(self, ticket: str) -> bool:
        """Returns True while a ticket waits or runs, as far as this process knows."""
        with self._lock:
            future = self._futures.get(ticket)
            return ticket in self._waiting or (future is not None and future.status == "pending")

    def cancel(self, ticket: str) -> None:
        """Cancels a ticket, also one that another process pushed."""
        self.cancel_all([ticket])

    def cancel_all(self, tickets: list[str]) -> None:
        """Cancels tickets."""
        from distributed import Future

        client = self._scheduler.client()
        with self._lock, self._scheduler.seam():
            self._waiting = deque(t for t in self._waiting if t not in set(tickets))
            known = [self._futures.pop(t, None) for t in tickets]
            futures = [
                future or Future(key(self._order.lease_id, ticket), client)
                for ticket, future in zip(tickets, known, strict=True)
            ]
            client.cancel(futures, force=True)

    def pump(self) -> None:
        """Submits waiting tickets if the limit allows."""
        with self._lock:
            if self._waiting:
                self._fill()

    def _fill(self) -> None:
        from distributed import fire_and_forget

        client = self._scheduler.client()
        with self._scheduler.seam():
            pending = sum(1 for f in self._futures.values() if f.status == "pending")
            submitted: list[Future[str]] = []
            near = self._near()
            while self._waiting and (self._limit is None or pending < self._limit):
                ticket = self._waiting.popleft()
                future = client.submit(
                    worker_proxy.work,
                    self._order.model_dump_json(),
                    ticket,
                    key=key(self._order.lease_id, ticket),
                    retries=0,
                    pure=False,
                    # Leases that share a cluster take turns: their n-th tasks have equal priority.
                    priority=-pending,
                    resources={GPU: self._order.gpus} if self._order.gpus else None,
                    workers=near,
                    allow_other_workers=near is not None,
                )
                # The task continues after this process has ended.
                fire_and_forget(future)
                self._futures[ticket] = future
                submitted.append(future)
                pending += 1
                if self._limit is not None:
                    future.add_done_callback(self._next)
            _wait_for_arrival(client, submitted, self._scheduler.timeout_s)

    def _near(self) -> list[str] | None:
        """Workers with an agent, where others host copies and have none; None: any worker."""
        if not self._order.hosts:
            return None
        return sorted(of_lease(self._scheduler, self._order.lease_id)) or None

    def _next(self, _future: Future[str]) -> None:
        # Without a scheduler nothing can be submitted; ``pump`` tries again.
        with contextlib.suppress(InfrastructureError):
            self.pump()

    def _forget(self, ticket: str) -> None:
        """Releases a task that has finished, or that was lost with its connection."""
        future = self._futures.pop(ticket)
        if future.client.status == "running":
            with self._scheduler.seam():
                future.client.cancel([future], force=True)


def _wait_for_arrival(client: Client, futures: list[Future[str]], limit_s: float) -> None:
    """Waits until the scheduler knows the submitted tasks; ``submit`` returns before that.

    The driver may be killed at the next moment, and relies on the cluster to continue.
    """
    deadline = time.monotonic() + ARRIVAL_S
    while left := {str(f.key) for f in futures if f.status == "pending"}:
        known = client.sync(
            client.scheduler.get_task_status, keys=sorted(left), callback_timeout=limit_s
        )
        if all(known.values()) or time.monotonic() >= deadline:
            return  # the next probe notices a lost scheduler
        time.sleep(0.01)


def key(lease: str, ticket: str) -> str:
    """Returns the key of a ticket's task, which is the same in all processes."""
    return f"drillyard-{ticket}-{lease}"
