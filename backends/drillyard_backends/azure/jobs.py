"""The jobs of a lease: one for each run with work to do, named after its ticket."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drillyard.backend import Liveness, Order
from drillyard.documents.json_types import JsonObject
from drillyard.errors import AccessDenied, ControlPlaneError, DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.holders import holder
from drillyard.system.clock import Clock
from drillyard_backends.azure import naming
from drillyard_backends.azure.clusters import stamp
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service

FRESH_S = 4.0
"""Largest age in seconds of a listing that decides whether a job is alive."""
SETTLED_S = 60.0
"""Seconds after which a job that is missing in the listing and by its name is gone."""
NOT_RESPONDING_S = 600.0
"""Seconds for which a job may not respond to its service until it is cancelled."""
LEAVE_S = 30.0
"""Seconds that the program of a job may take to exit after its run has finished."""
OVER = frozenset({"Completed", "Failed", "Canceled"})
SLOW_S = 60.0
"""Seconds after which the user is told that a cancelled job has not ended."""
CANCEL_AGAIN_S = 60.0
"""Seconds until a job that is being cancelled is cancelled again."""
HANGING_S = 300.0
"""Seconds in which a cancelled job should end."""
ENDING = frozenset({"Finalizing", "CancelRequested"})
"""States in which the service refuses to cancel, or is cancelling: the jobs end by themselves."""
_AT_WORK = frozenset({"Running", *ENDING})
_SILENT = "NotResponding"
_PREPARING = frozenset({"Preparing", "Starting", "Provisioning"})
_NUMBER = re.compile(r"-(\d+)\Z")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service described it last.

    Attributes:
        name: Its name; ends with which of the ticket's jobs it is.
        ticket: What it was made for.
        status: As Azure says it.
        url: Address of its page in the studio.
        tags: Its tags.
        created_at: Epoch seconds; 0 where the service does not say.
    """

    name: str
    ticket: str
    status: str
    url: str = ""
    tags: Mapping[str, str] | None = None
    created_at: float = 0.0

    @classmethod
    def of(cls, document: JsonObject) -> Job:
        """Reads the service's answer; missing fields are empty."""
        properties = section(document, "properties")
        tags = {str(k): str(v) for k, v in section(properties, "tags").items()}
        studio = section(section(properties, "services"), "Studio")
        created = section(document, "systemData").get("createdAt")
        return cls(
            str(document.get("name", "")),
            tags.get(naming.TICKET_TAG, ""),
            str(properties.get("status") or ""),
            str(studio.get("endpoint") or ""),
            tags,
            stamp(created),
        )

    @property
    def run(self) -> str:
        """The run that it works on; it continues with the next phases of that run."""
        return self.ticket.rpartition(".")[0]

    @property
    def number(self) -> int:
        """Its number among its ticket's jobs."""
        match = _NUMBER.search(self.name)
        return int(match[1]) if match else 0

    @property
    def over(self) -> bool:
        """True if nothing of it runs, and nothing will run."""
        return self.status in OVER

    @property
    def liveness(self) -> Liveness:
        """Its state in the terms of the port."""
        if self.over:
            return Liveness.GONE
        if self.status == _SILENT:
            return Liveness.UNKNOWN  # it "can go from NotResponding to any of the previous states"
        return Liveness.ALIVE if self.status in _AT_WORK else Liveness.PENDING

    def of_lease(self, lease_id: str) -> bool:
        """Returns whether it belongs to a lease, by its own tags."""
        return (self.tags or {}).get(naming.LEASE_TAG) == lease_id


def is_on(name: str, host: str) -> bool:
    """Returns whether a worker's host is a node of a job.

    Args:
        name: Name of the job.
        host: The host, as the worker calls it: the nodes of a job of several nodes add their
            number, also if the job is one run.
    """
    return name in (host, host.rpartition("-")[0])


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a job may stay without progress, in seconds.

    Attributes:
        preparing_s: Time in which a node prepares a job, until another job is tried.
        build_s: The same while no job of the lease has run: the image may be being built.
    """

    preparing_s: float
    build_s: float


class Jobs:
    """The jobs of one lease, as this process knows them.

    Args:
        service: Sends the requests.
        order: The order of the lease.
        make: Makes the properties of the job of (name, ticket) that is submitted.
        clock: Clock.
        patience: How long a job may take to start.
        width: Runs of a job at once. The nodes of a wide one look for runs by themselves.
        stuck: Whether the cluster has nodes and none of them can be used.
        begun: Returns the start of the lease, as the tags of its jobs say it.
        larger: Whether the cluster may have more nodes than were ordered, so that it does not
            limit how many jobs work at once.
    """

    def __init__(
        self,
        service: Service,
        order: Order,
        make: Callable[[str, str], dict[str, object]],
        clock: Clock,
        patience: Patience,
        width: int = 1,
        stuck: Callable[[], bool] = lambda: False,
        begun: Callable[[], str] = lambda: "",
        larger: Callable[[], bool] = lambda: False,
    ) -> None:
        self._width, self._most = width, -(-order.workers // width)
        self._shared: dict[str, str] = {}
        """Run to the wide job that it was left to."""
        self._service, self._order, self._make = service, order, make
        self._clock, self._patience, self._stuck = clock, patience, stuck
        self._begun, self._larger = begun, larger
        self._lock = threading.RLock()
        self._known: dict[str, Job] = {}
        self._looked_at: float | None = None
        self._unseen: dict[str, float] = {}
        """Job that is neither listed nor found by its name -> since when."""
        self._since: dict[str, tuple[str, float]] = {}
        """Job -> what it is waiting for, and since when."""
        self._given_up: set[str] = set()
        self.news: list[str] = []
        """A sentence about each job that failed or was given up."""
        self._leaving: dict[str, float] = {}
        self._ending: dict[str, float] = {}
        self._cancelled: dict[str, float] = {}
        """Job -> when its end was last asked for."""

    def look(self, fresh_s: float | None = None) -> list[Job]:
        """All jobs of the lease, from a listing that is at most so old; default: ``FRESH_S``."""
        fresh_s = FRESH_S if fresh_s is None else fresh_s
        with self._lock:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at > fresh_s:
                lease = self._order.lease_id
                # The listing is asked for by the name of a tag; what it says is compared.
                listed = [Job.of(document) for document in self._service.jobs(lease)]
                jobs = {job.name: job for job in listed if job.of_lease(lease)}
                for name in [name for name in self._known if name not in jobs]:
                    self._look_for(name, now)
                self._unseen = {n: t for n, t in self._unseen.items() if n not in jobs}
                self._known.update(jobs)
                self._looked_at = now
                self._give_up(now)
            return list(self._known.values())

    def _look_for(self, name: str, now: float) -> None:
        """A job that is not listed, or not yet: ask for it by its name."""
        if self._known[name].over:
            return
        try:
            self._known[name] = Job.of(self._service.job(name))
            self._unseen.pop(name, None)
        except Missing:
            if now - self._unseen.setdefault(name, now) >= SETTLED_S:
                del self._known[name], self._unseen[name]

    def of(self, ticket: str, fresh_s: float | None = None) -> Job | None:
        """The job that works on a ticket's run, or else the newest one that did."""
        run = ticket.rpartition(".")[0]
        known = [j for j in self.look(fresh_s) if j.name not in self._given_up]
        name = self._shared.get(run)
        # Of a wide job any node may have the run: who does not know which, asks for any.
        jobs = [j for j in known if self._mine(j, run) and name in (None, j.name)]
        jobs.sort(key=lambda j: (not j.over, j.number))
        return jobs[-1] if jobs else None

    def holding(self, ticket: str) -> Job | None:
        """The job of the worker that has a ticket; ``of`` if no worker has it.

        A node can claim a ticket just before its job is seen to have failed. Then a second job of
        the ticket is at work, which says nothing about the claim.

        Returns:
            None if the job was given up, or if there is none.
        """
        run = ticket.rpartition(".")[0]
        jobs = {job.name: job for job in self.look() if self._mine(job, run)}
        if len(jobs) < 2:
            return self.of(ticket)
        mailbox = Mailbox(open_store(self._order.store_url), self._order.experiment)
        worker = holder(mailbox, self._order.lease_id, ticket)
        if worker is None:
            return self.of(ticket)
        job = next((job for job in jobs.values() if is_on(job.name, worker.host)), None)
        if job is None:
            return self.of(ticket)
        return None if job.name in self._given_up else job

    def is_new(self, job: Job) -> bool:
        """Returns whether a job was submitted since this lease began.

        Azure keeps jobs for ever, and the lease of an experiment that was deleted and run again
        has the id of the one before.
        """
        return (job.tags or {}).get(self._order.lease_id) == self._begun()

    def _mine(self, job: Job, run: str) -> bool:
        return self._width > 1 or job.run == run

    def push(self, ticket: str) -> Job | None:
        """The living job of a ticket's run, or a new one: one submitting call.

        Returns:
            None while as many jobs as were ordered live on a cluster with room for more. Other
            jobs are left to the queue of the cluster, which needs no driver.
        """
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
            if self.full():
                return None
            number = 1 + max(
                (j.number for j in self._known.values() if j.ticket == ticket), default=0
            )
            while True:
                job = self._submit(ticket, number)
                if job is not None:
                    self._known[job.name] = job
                    self._share(ticket, job)
                    return job
                number += 1

    def _submit(self, ticket: str, number: int) -> Job | None:
        """The n-th job of a ticket; None: it is over, or another ticket's."""
        name = naming.job_name(self._order.lease_id, ticket, number)
        try:
            return Job.of(self._service.submit(name, self._make(name, ticket)))
        except Exists as refusal:
            # Also the answer to a repeat of our own, when the first answer was lost; the service
            # does not tell it from another job of that name, or from a cluster that is changing.
            try:
                there = Job.of(self._service.job(name))
            except Missing:
                raise ControlPlaneError(
                    f"submit job {name}: Azure refuses it for now: {refusal}",
                    hint="it is submitted again",
                ) from refusal
        ours = there.of_lease(self._order.lease_id) and there.ticket == ticket
        return there if ours and not there.over and name not in self._given_up else None

    def _with_room(self, ticket: str) -> Job | None:
        """The wide job that a ticket's run is left to; None: another one is needed."""
        living = self._living()
        if self._width == 1 or not living:
            return None
        loads = Counter(self._shared.values())
        least = min(living, key=lambda j: (loads[j.name], j.name))
        if loads[least.name] >= self._width and len(living) < self._most:
            return None
        self._share(ticket, least)
        return least

    def full(self) -> bool:
        """Returns whether no more jobs are submitted now, though the cluster has room."""
        with self._lock:
            return len(self._living()) >= self._most and self._larger()

    def _living(self) -> list[Job]:
        return [j for j in self._known.values() if not j.over and j.name not in self._given_up]

    def _share(self, ticket: str, job: Job) -> None:
        if self._width > 1:
            self._shared[ticket.rpartition(".")[0]] = job.name

    # -- ending -------------------------------------------------------------------------------

    def may_leave(self, job: Job) -> bool:
        """Returns whether a job with a finished run may end by itself, for some seconds."""
        with self._lock:
            now = self._clock.monotonic()
            return now - self._leaving.setdefault(job.name, now) < LEAVE_S

    def hangs(self, job: Job) -> bool:
        """Returns whether a job has been about to end for longer than that should take."""
        with self._lock:
            now = self._clock.monotonic()
            since = self._ending.setdefault(job.name, now)
            return job.status in ENDING and now - since >= HANGING_S

    def tell(self, sentence: str) -> None:
        """Keeps a sentence for the user, once."""
        with self._lock:
            if sentence not in self.news:
                self.news.append(sentence)

    def unending(self) -> list[str]:
        """Returns a sentence about each cancelled job that takes long to end."""
        with self._lock:
            now = self._clock.monotonic()
            return [
                f"job {job.name} of {job.ticket} was cancelled more than {SLOW_S:.0f} s ago and "
                f"is still {job.status}: its node, which is billed, may not answer"
                for name, since in self._ending.items()
                if (job := self._known.get(name)) is not None
                and job.status in ENDING
                and now - since >= SLOW_S
            ]

    def cancel(self, job: Job) -> None:
        """Ask for the end of a job; gone, over and about to end are success.

        Raises:
            AccessDenied: The caller may not cancel jobs.
            ControlPlaneError: It was refused, and the job is at work; ask again.
        """
        with self._lock:
            self._looked_at, now = None, self._clock.monotonic()
            asked_at = self._cancelled.get(job.name)
            if job.status in ENDING and asked_at is not None and now - asked_at < CANCEL_AGAIN_S:
                return  # it is being cancelled; each request counts against Azure's limits
            self._cancelled[job.name] = now
        try:
            self._service.cancel(job.name)
        except Missing:
            return
        except AccessDenied:
            raise
        except (Exists, DrillyardError) as refusal:
            # The service refuses it, with 400, 409 or 500, for a job that is about to end.
            with contextlib.suppress(Missing):
                there = Job.of(self._service.job(job.name))
                if not there.over and there.status not in ENDING:
                    text = f"cancel job {job.name}, which is {there.status}: {refusal}"
                    raise ControlPlaneError(text, hint="the next attempt may succeed") from refusal

    def _give_up(self, now: float) -> None:
        """Cancel jobs that wait for ever; the next launch makes another one."""
        stuck: bool | None = None
        for job in self._known.values():
            reason = "preparing" if job.status in _PREPARING else job.status
            if reason == "Queued":
                stuck = self._stuck() if stuck is None else stuck
                reason = "unready" if stuck else reason
            if self._since.get(job.name, ("",))[0] != reason:
                self._since[job.name] = reason, now
            limit_s = self._limit_s(reason)
            if now - self._since[job.name][1] <= limit_s or job.name in self._given_up:
                continue
            try:
                self.cancel(job)
            except DrillyardError as error:
                log.info("job %s cannot be cancelled now: %s", job.name, error)
                continue
            follows = "once Azure says that it is over" if reason == _SILENT else "now"
            sentence = (
                f"the job of {job.ticket} was {job.status} for more than {limit_s:.0f} s: "
                f"{job.name} is cancelled, and another one follows {follows}"
            )
            log.warning("%s", sentence)
            self.tell(sentence)
            if reason != _SILENT:
                # Nothing of it has begun. A job that does not respond may be at work: it is
                # followed by another one only when the service says that it is over.
                self._given_up.add(job.name)

    def _limit_s(self, reason: str) -> float:
        if reason == _SILENT:
            return NOT_RESPONDING_S
        if reason not in ("preparing", "unready"):
            return float("inf")
        # "Preparing" stands for a build as well, before or after "Queued".
        built = any(
            j.status in _AT_WORK or (j.status == "Completed" and self.is_new(j))
            for j in self._known.values()
        )
        return self._patience.preparing_s + (0.0 if built else self._patience.build_s)
