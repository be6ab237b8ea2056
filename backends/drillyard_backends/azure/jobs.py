"""The jobs of a lease: one for each run that somebody has to do, named after its ticket."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drillyard.backend import Liveness, Order
from drillyard.errors import InfrastructureError
from drillyard.system.clock import Clock
from drillyard_backends.azure import naming
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.service import Service, word

FRESH_S = 4.0
"""How old a listing may be that decides whether a job lives."""
MARGIN_S = 120.0
"""Between the lease's own limit, which flushes, and Azure's, which cuts."""
OVER = frozenset({"Completed", "Failed", "Canceled", "NotResponding"})
_AT_WORK = frozenset({"Running", "Finalizing", "CancelRequested"})
_PREPARING = frozenset({"Preparing", "Starting", "Provisioning"})
_NUMBER = re.compile(r"-(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the last listing told.

    Attributes:
        name: Its name; ends with which of the ticket's jobs it is.
        ticket: What it was made for.
        status: As Azure says it.
        url: Of its page in the studio.
    """

    name: str
    ticket: str
    status: str
    url: str = ""

    @property
    def run(self) -> str:
        """Whose; it goes on to the next phases of its run."""
        return self.ticket.rpartition(".")[0]

    @property
    def number(self) -> int:
        """Which of its ticket's jobs."""
        match = _NUMBER.search(self.name)
        return int(match[1]) if match else 0

    @property
    def over(self) -> bool:
        """Nothing of it runs, and nothing will."""
        return self.status in OVER

    @property
    def liveness(self) -> Liveness:
        """In the words of the port."""
        if self.over:
            return Liveness.GONE
        return Liveness.ALIVE if self.status in _AT_WORK else Liveness.PENDING


class Jobs:
    """The jobs of one lease, as this process knows them.

    Args:
        service: Makes the calls.
        order: What was rented.
        make: Makes the job of (name, ticket) that is submitted.
        clock: Time.
        preparing_s: How long a node may prepare a job, until another one is tried.
        width: Nodes of a job. Those of a wide one look for runs by themselves.
    """

    def __init__(
        self,
        service: Service,
        order: Order,
        make: Callable[[str, str], Any],
        clock: Clock,
        preparing_s: float,
        width: int = 1,
    ) -> None:
        self._width, self._most = width, -(-order.workers // width)
        self._shared: dict[str, str] = {}
        """Run to the wide job that it was left to."""
        self._service, self._order, self._make = service, order, make
        self._clock, self._preparing_s = clock, preparing_s
        self._lock = threading.RLock()
        self._known: dict[str, Job] = {}
        self._looked_at: float | None = None
        self._preparing: dict[str, float] = {}
        self._given_up: set[str] = set()

    def look(self, fresh_s: float = FRESH_S) -> list[Job]:
        """All jobs of the lease, from a listing that is at most so old."""
        with self._lock:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at > fresh_s:
                found = [_job(one) for one in self._service.jobs(self._order.lease_id)]
                self._looked_at = now
                # What was just submitted may not be listed yet.
                self._known.update({job.name: job for job in found})
                self._time_preparing(now)
            return list(self._known.values())

    def of(self, ticket: str, fresh_s: float = FRESH_S) -> Job | None:
        """The job that works on a ticket's run, or else the newest one that did."""
        run = ticket.rpartition(".")[0]
        known = [j for j in self.look(fresh_s) if j.name not in self._given_up]
        name = self._shared.get(run)
        # Of a wide job any node may have the run: who does not know which, asks for any.
        mine = [j for j in known if self._mine(j, run) and name in (None, j.name)]
        mine.sort(key=lambda j: (not j.over, j.number))
        return mine[-1] if mine else None

    def _mine(self, job: Job, run: str) -> bool:
        return self._width > 1 or job.run == run

    def push(self, ticket: str) -> Job:
        """The living job of a ticket's run, or a new one: one submitting call."""
        with self._lock:
            there = self.of(ticket, fresh_s=float("inf"))
            if (
                there is not None
                and not there.over
                and (self._width == 1 or ticket.rpartition(".")[0] in self._shared)
            ):
                return there
            shared = self._with_room(ticket)
            if shared is not None:
                return shared
            number = 1 + max((j.number for j in self._known.values() if j.ticket == ticket),
                             default=0)  # fmt: skip
            while True:
                name = naming.job_name(self._order.lease_id, ticket, number)
                try:
                    job = _job(self._service.submit(self._make(name, ticket)))
                except Exists:
                    number += 1  # of another content: an earlier driver's, with other settings
                    continue
                self._known[job.name] = job
                self._share(ticket, job)
                return job

    def _with_room(self, ticket: str) -> Job | None:
        """The wide job that a ticket's run is left to; None: another one is needed."""
        living = [j for j in self._known.values() if not j.over and j.name not in self._given_up]
        if self._width == 1 or not living:
            return None
        loads = Counter(self._shared.values())
        least = min(living, key=lambda j: (loads[j.name], j.name))
        if loads[least.name] >= self._width and len(living) < self._most:
            return None
        self._share(ticket, least)
        return least

    def _share(self, ticket: str, job: Job) -> None:
        if self._width > 1:
            self._shared[ticket.rpartition(".")[0]] = job.name

    def cancel(self, job: Job) -> None:
        """Ask for the end of a job; gone is success."""
        with contextlib.suppress(Missing):
            self._service.cancel(job.name)
        with self._lock:
            self._looked_at = None

    def _time_preparing(self, now: float) -> None:
        """Give up jobs that a node prepares for ever; the next launch makes another one."""
        for job in self._known.values():
            if job.status not in _PREPARING:
                self._preparing.pop(job.name, None)
                continue
            since = self._preparing.setdefault(job.name, now)
            if now - since > self._preparing_s and job.name not in self._given_up:
                try:
                    self._service.cancel(job.name)
                except (Missing, InfrastructureError):
                    continue
                self._given_up.add(job.name)


def _job(one: Any) -> Job:
    tags = dict(one.tags or {})
    studio = (one.services or {}).get("Studio") if one.services else None
    url = str(getattr(studio, "endpoint", "") or "")
    return Job(str(one.name), str(tags.get(naming.TICKET_TAG, "")), word(one.status), url)
