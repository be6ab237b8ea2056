"""One Azure ML workspace: clusters that scale from zero, environments, jobs, and their names."""

from __future__ import annotations

import threading
from typing import cast

from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.model import (
    ENDING,
    MUTABLE,
    Compute,
    Job,
    Physics,
    Site,
)
from drillyard_emulators.azure.nodes import Nodes
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.scheduler import Scheduler

_LOOK_S = 0.1
SILENT_S = 60.0
"""How long a job is NotResponding before its service hears of it again."""


class World:
    """Everything in the workspace, changed by its scheduler.

    Args:
        clock: Its time.
        site: Where jobs run.
    """

    def __init__(self, clock: EmulatedClock, site: Site) -> None:
        self.clock, self.physics = clock, Physics()
        self.lock = threading.RLock()
        self.scheduler = Scheduler(clock, self.lock)
        self.computes: dict[str, Compute] = {}
        self._leaving: list[Compute] = []
        """Clusters that are gone, and that a listing may still show."""
        self.environments: dict[str, Document] = {}
        self.nodes = Nodes(clock, self.scheduler, self.physics, self.computes, site)

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs, the oldest first."""
        return self.nodes.jobs

    # -- clusters -----------------------------------------------------------------------------

    def compute(self, name: str) -> Compute:
        """A cluster that is answered by now.

        Raises:
            Denied: There is none, or not yet.
        """
        cluster = self.computes.get(name)
        if cluster is None or self.clock.now() - cluster.created < self.physics.visible_s:
            raise Denied(404, "ResourceNotFound", f"Compute {name} was not found.")
        return cluster

    def listed_computes(self) -> list[Compute]:
        """The clusters that a listing shows: those of some time ago."""
        then = self.clock.now() - max(self.physics.listing_lag_s, self.physics.visible_s)
        self._leaving = [cluster for cluster in self._leaving if (cluster.gone or 0.0) > then]
        there = [*self.computes.values(), *self._leaving]
        return [cluster for cluster in there if cluster.created <= then]

    def put_compute(self, name: str, document: Document, absent: bool = False) -> Compute:
        """Make a cluster, or change it."""
        with self.lock:
            compute = self.computes.get(name)
            if compute is not None and absent and self.physics.conditions:
                raise Denied(412, "PreconditionFailed", f"Compute {name} is there.")
            if compute is None:
                compute = self.computes[name] = Compute(name, document, self.clock.now())
                self.scheduler.after(self.physics.create_s, lambda: self._made(compute))
            else:
                self._settled(compute)
                compute.document = document
            return compute

    def _settled(self, compute: Compute) -> None:
        """Refuses a change during another one."""
        if self.physics.conflicts and compute.state not in ("Succeeded", "Failed", "Canceled"):
            text = f"Compute {compute.name} is in state {compute.state}: try again later."
            raise Denied(409, "Conflict", text)
        if self.physics.resizing_conflicts and self._resizing(compute.name):
            text = f"Compute {compute.name} is being resized: try again later."
            raise Denied(409, "Conflict", text)

    def _resizing(self, name: str) -> bool:
        """Whether a node of a cluster comes or goes."""
        jobs = (job for job in self.jobs.values() if job.compute == name)
        moving = (job for job in jobs if job.status == "Queued" or job.ending)
        return any(node["gone"] is None for job in moving for node in job.nodes)

    def _made(self, compute: Compute) -> None:
        if compute.state == "Creating":
            compute.state = "Succeeded"
            self.nodes.place()

    def delete_compute(self, name: str) -> None:
        """Delete a cluster; what runs on it is ended."""
        with self.lock:
            compute = self.compute(name)
            self._settled(compute)
            compute.state = "Deleting"
            for job in self.jobs.values():
                if job.compute == name:
                    self.nodes.end(job, "cancel")
            self.scheduler.after(self.physics.create_s, lambda: self._deleted(compute))

    def _deleted(self, compute: Compute) -> None:
        if any(n["compute"] == compute.name and n["gone"] is None for n in self.nodes.all):
            self.scheduler.after(_LOOK_S, lambda: self._deleted(compute))
        elif self.computes.get(compute.name) is compute:
            del self.computes[compute.name]
            compute.gone = self.clock.now()
            self._leaving.append(compute)

    # -- jobs ---------------------------------------------------------------------------------

    def put_job(self, name: str, properties: Document) -> Job:
        """Submits a job; another one with its name is refused, and possibly the same one too."""
        with self.lock:
            there = self.jobs.get(name)
            if there is not None:
                before = there.properties
                fixed = {*before, *properties} - {*MUTABLE}
                changed = sorted(f for f in fixed if before.get(f) != properties.get(f))
                if changed or not self.physics.repeats:
                    text = (
                        "A job with this name already exists. If you are trying to submit a new "
                        "job, use a different name. If you are trying to update an existing job, "
                        "the existing job's properties cannot be changed. Only description, tags, "
                        "displayName, properties, and isArchived can be updated."
                    )
                    raise Denied(400, "UserError", text)
                return there
            job = Job(name, properties, self.clock.now(), now=self.clock.now)
            compute = self.computes.get(job.compute)
            if compute is None or compute.state == "Deleting":
                text = f"The specified compute target {job.compute!r} does not exist."
                raise Denied(400, "UserError", text)
            if job.environment not in self.environments:
                text = f"The specified environment {job.environment!r} does not exist."
                raise Denied(400, "UserError", text)
            if job.width > compute.most:
                text = f"{job.width} nodes were asked for, and the cluster has {compute.most}."
                raise Denied(400, "UserError", text)
            self.nodes.add(job)
            return job

    def listed_jobs(self) -> list[tuple[Job, str]]:
        """The jobs that a listing shows, with their states of some time ago, newest first."""
        then = self.clock.now() - self.physics.listing_lag_s
        listed = [(job, job.shown_at(then)) for job in reversed(self.jobs.values())]
        return [(job, status) for job, status in listed if status is not None]

    def cancel(self, name: str) -> Job:
        """Cancel a job."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                raise Denied(404, "UserError", f"Job {name} was not found.")
            if job.over or job.status in ENDING:
                text = f"The run {name} is in state {job.status} and cannot be canceled."
                raise Denied(self.physics.cancel_status, "UserError", text)
            self.nodes.end(job, "cancel")
            return job

    def happen(self, what: str, name: str) -> None:
        """Applies an event to a job.

        Args:
            what: ``preempt``, ``cut``, ``evict``, ``crash``, ``hang``, ``kill``; ``silent``,
                ``heard``: its service does not hear of it, or does again; ``not-responding``:
                the first, and the second ``SILENT_S`` later.
            name: Name of the job.

        Raises:
            KeyError: No such job on a node.
            ValueError: Nothing of that name can happen.
        """
        job = self.jobs.get(name)
        if job is None or not job.nodes:
            raise KeyError(f"no job {name!r} on a node")
        deeds = {
            "preempt": lambda: self.nodes.end(job, "preempt"),
            "cut": lambda: self.nodes.cut(job, "preempt"),
            "evict": lambda: self.nodes.cut(job, "evict"),
            "crash": lambda: self.nodes.cut(job, "crash"),
            "hang": lambda: self.nodes.freeze(job),
            "kill": lambda: self.nodes.kill(job),
            "silent": lambda: setattr(job, "silent", True),
            "heard": lambda: setattr(job, "silent", False),
            "not-responding": lambda: self._not_responding(job),
        }
        if what not in deeds:
            raise ValueError(f"{what!r}: what can happen is {', '.join(deeds)}")
        self.scheduler.after(0.0, deeds[what])

    def _not_responding(self, job: Job) -> None:
        job.silent = True
        self.scheduler.after(SILENT_S, lambda: setattr(job, "silent", False))

    def state(self) -> Document:
        """Everything that exists, and all nodes that ever did."""
        with self.lock:
            now = self.clock.now()
            return {
                "computes": {
                    c.name: {"state": c.state, "tags": c.document.get("tags") or {}}
                    for c in self.computes.values()
                },
                "environments": sorted(self.environments),
                "jobs": {
                    j.name: {
                        "status": j.shown,
                        "error": j.error,
                        "times": j.times,
                        "tags": j.tags,
                        "experiment": j.properties.get("experimentName"),
                    }
                    for j in self.jobs.values()
                },
                "nodes": [
                    {**cast("Document", node), "lived_s": (node["gone"] or now) - node["born"]}
                    for node in self.nodes.all
                ],
                "physics": self.physics.model_dump(),
            }

    def close(self) -> None:
        """Cuts every node."""
        self.scheduler.close()
        self.nodes.close()
