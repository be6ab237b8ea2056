"""One Azure ML workspace: clusters that scale from zero, environments, jobs, and their names."""

from __future__ import annotations

import threading
from typing import Any

from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.model import FIXED, Compute, Job, Physics, Site
from drillyard_emulators.azure.nodes import Nodes
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.scheduler import Scheduler

_LOOK_S = 0.1


class World:
    """Everything in the workspace, moved on by its scheduler.

    Args:
        clock: Its time.
        site: Where jobs run.
    """

    def __init__(self, clock: EmulatedClock, site: Site) -> None:
        self.clock, self.physics = clock, Physics()
        self.lock = threading.RLock()
        self.scheduler = Scheduler(clock, self.lock)
        self.computes: dict[str, Compute] = {}
        self.environments: dict[str, dict[str, Any]] = {}
        self.nodes = Nodes(clock, self.scheduler, self.physics, self.computes, site)

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs, the oldest first."""
        return self.nodes.jobs

    # -- clusters -----------------------------------------------------------------------------

    def put_compute(self, name: str, document: dict[str, Any]) -> Compute:
        """Make a cluster, or change it."""
        with self.lock:
            found = self.computes.get(name)
            if found is None:
                found = self.computes[name] = Compute(name, document, self.clock.now())
                self.scheduler.after(self.physics.create_s, lambda: self._made(found))
            else:
                found.document = document
            return found

    def _made(self, compute: Compute) -> None:
        if compute.state == "Creating":
            compute.state = "Succeeded"
            self.nodes.place()

    def delete_compute(self, name: str) -> None:
        """Delete a cluster; what runs on it is ended."""
        with self.lock:
            compute = self.computes.get(name)
            if compute is None:
                raise Denied(404, "ResourceNotFound", f"Compute {name} was not found.")
            if compute.state == "Deleting":
                return
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

    # -- jobs ---------------------------------------------------------------------------------

    def put_job(self, name: str, properties: dict[str, Any]) -> Job:
        """Submit a job; the same again is the same, another one under its name is refused."""
        with self.lock:
            found = self.jobs.get(name)
            if found is not None:
                changed = [f for f in FIXED if found.properties.get(f) != properties.get(f)]
                if changed:
                    text = (
                        "A job with this name already exists. If you are trying to submit a new "
                        f"job, use a different name. The existing {changed[0]} cannot be changed."
                    )
                    raise Denied(400, "UserError", text)
                return found
            job = Job(name, properties, self.clock.now())
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

    def cancel(self, name: str) -> Job:
        """Cancel a job."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                raise Denied(404, "UserError", f"Job {name} was not found.")
            self.nodes.end(job, "cancel")
            return job

    def happen(self, what: str, name: str) -> None:
        """Something happens to a job: ``preempt``, ``cut``, ``crash``, ``hang`` or ``kill``.

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
            "crash": lambda: self.nodes.cut(job, "crash"),
            "hang": lambda: self.nodes.freeze(job),
            "kill": lambda: self.nodes.kill(job),
        }
        if what not in deeds:
            raise ValueError(f"{what!r}: what can happen is {', '.join(deeds)}")
        self.scheduler.after(0.0, deeds[what])

    def state(self) -> dict[str, Any]:
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
                    j.name: {"status": j.status, "error": j.error, "times": j.times,
                             "tags": j.tags, "experiment": j.properties.get("experimentName")}
                    for j in self.jobs.values()
                },
                "nodes": [
                    {**n, "lived_s": (n["gone"] or now) - n["born"]} for n in self.nodes.all
                ],
                "physics": self.physics.model_dump(),
            }  # fmt: skip

    def close(self) -> None:
        """Cut every node."""
        self.scheduler.close()
        self.nodes.close()
