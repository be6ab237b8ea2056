"""One Azure ML workspace: clusters that scale from zero, environments, jobs as process groups."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from drillyard.testing.cloud.azure.answers import Denied
from drillyard.testing.cloud.clock import EmulatedClock
from drillyard.testing.cloud.machines import Machine
from drillyard.testing.cloud.scheduler import Scheduler

OVER = ("Completed", "Failed", "Canceled")
FIXED = ("command", "computeId", "environmentId", "environmentVariables", "codeId")
_DURATION = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?\Z")
_LOOK_S = 0.1
_LOG_S = 1.0


class Physics(BaseModel):
    """How this world behaves; times in emulated seconds.

    Attributes:
        create_s: A cluster is made, or goes.
        node_s: A node comes.
        image_s: An environment's image is built, at its first use.
        prepare_s: A node gets the image.
        notice_s: Between being told and being cut.
        broken_builds: So many builds fail.
        stuck: So many jobs stay in "Preparing" for ever.
        low_priority: Nodes of that kind that are to be had; None: any number.
    """

    model_config = ConfigDict(extra="forbid")

    create_s: float = 0.3
    node_s: float = 0.3
    image_s: float = 0.2
    prepare_s: float = 0.1
    notice_s: float = 30.0
    broken_builds: int = 0
    stuck: int = 0
    low_priority: int | None = None


@dataclass
class Compute:
    """A cluster."""

    name: str
    document: dict[str, Any]
    made: float
    state: str = "Creating"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the nodes."""
        found: dict[str, Any] = self.document["properties"]["properties"]
        return found

    @property
    def low_priority(self) -> bool:
        """Whether its nodes can be taken away."""
        return str(self.settings.get("vmPriority", "")).lower() == "lowpriority"

    @property
    def most(self) -> int:
        """Nodes at the most."""
        return int(self.settings.get("scaleSettings", {}).get("maxNodeCount", 1))


@dataclass
class Job:
    """A command job."""

    name: str
    properties: dict[str, Any]
    made: float
    status: str = "Queued"
    error: dict[str, str] | None = None
    machine: Machine | None = None
    node: dict[str, Any] | None = None
    times: int = 0
    ending: str = ""
    """What its node is being ended for: ``cancel``, ``timeout``, ``preempt``; empty: nothing."""
    log: list[Path] = field(default_factory=list)
    shipped: int = -1

    @property
    def compute(self) -> str:
        """Name of its cluster."""
        return str(self.properties.get("computeId", "")).rpartition("/")[2]

    @property
    def environment(self) -> str:
        """Id of its environment's version, without the workspace."""
        return str(self.properties.get("environmentId", "")).partition("/environments/")[2]


class World:
    """Everything in the workspace, moved on by its scheduler.

    Args:
        clock: Its time.
        folder: For the machines.
        environment: Environment variables of a job's processes, by its name.
        keep: Keeps a job's log where clients read it: (job, text).
    """

    def __init__(
        self,
        clock: EmulatedClock,
        folder: Path,
        environment: Callable[[Job], dict[str, str]],
        keep: Callable[[str, str, bytes], None],
    ) -> None:
        self.clock, self.physics = clock, Physics()
        self._folder, self._environment, self._keep = folder, environment, keep
        self.lock = threading.RLock()
        self.scheduler = Scheduler(clock, self.lock)
        self.computes: dict[str, Compute] = {}
        self.environments: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Job] = {}
        self.nodes: list[dict[str, Any]] = []
        self._built: set[str] = set()

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
            self._place()

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
                if job.compute == name and job.status not in OVER:
                    self._end_job(job, "cancel")
            self.scheduler.after(self.physics.create_s, lambda: self._deleted(compute))

    def _deleted(self, compute: Compute) -> None:
        if any(n["compute"] == compute.name and n["gone"] is None for n in self.nodes):
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
            nodes = int((properties.get("resources") or {}).get("instanceCount", 1))
            if nodes > compute.most:
                text = f"{nodes} nodes were asked for, and the cluster has {compute.most} at most."
                raise Denied(400, "UserError", text)
            self.jobs[name] = job
            limit = _seconds(str((properties.get("limits") or {}).get("timeout") or ""))
            if limit is not None:
                self.scheduler.after(limit, lambda: self._end_job(job, "timeout"))
            self.scheduler.after(0.0, self._place)
            return job

    def cancel(self, name: str) -> Job:
        """Cancel a job."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                raise Denied(404, "UserError", f"Job {name} was not found.")
            self._end_job(job, "cancel")
            return job

    def happen(self, what: str, name: str) -> None:
        """Something happens to a job's node: ``preempt``, ``cut``, ``crash`` or ``hang``.

        Raises:
            KeyError: No such job on a node.
            ValueError: Nothing of that name can happen.
        """
        job = self.jobs.get(name)
        if job is None or job.machine is None:
            raise KeyError(f"no job {name!r} on a node")
        deeds = {
            "preempt": lambda: self._end_job(job, "preempt"),
            "cut": lambda: self._cut(job, "preempt"),
            "crash": lambda: self._cut(job, "crash"),
            "hang": lambda: job.machine.freeze() if job.machine else None,
        }
        if what not in deeds:
            raise ValueError(f"{what!r}: what can happen is {', '.join(deeds)}")
        self.scheduler.after(0.0, deeds[what])

    # -- what moves by itself -----------------------------------------------------------------

    def _place(self) -> None:
        """Give nodes to jobs that wait, the oldest first."""
        for job in self.jobs.values():
            compute = self.computes.get(job.compute)
            if job.status != "Queued" or job.node or compute is None:
                continue
            busy = [n for n in self.nodes if n["gone"] is None]
            mine = [n for n in busy if n["compute"] == compute.name]
            scarce = self.physics.low_priority if compute.low_priority else None
            if compute.state != "Succeeded" or len(mine) >= compute.most:
                continue
            if scarce is not None and sum(n["low_priority"] for n in busy) >= scarce:
                continue
            job.times += 1
            job.node = {
                "name": f"{job.name}/{job.times}", "job": job.name, "compute": compute.name,
                "size": compute.settings.get("vmSize"), "low_priority": compute.low_priority,
                "born": self.clock.now(), "gone": None, "ended_by": "",
            }  # fmt: skip
            self.nodes.append(job.node)
            self._later(job, self.physics.node_s, self._prepare)

    def _later(self, job: Job, seconds: float, step: Callable[[Job], None]) -> None:
        """Go on with a job, unless its node is another one by then."""
        node = job.node

        def go_on() -> None:
            if job.node is node and not job.ending:
                step(job)

        self.scheduler.after(seconds, go_on)

    def _prepare(self, job: Job) -> None:
        job.status = "Preparing"
        if self.physics.stuck > 0:
            self.physics.stuck -= 1
            return
        seconds = self.physics.prepare_s
        if job.environment not in self._built:
            seconds += self.physics.image_s
            if self.physics.broken_builds > 0:
                self.physics.broken_builds -= 1
                text = "Image build failed. For more details, check log file azureml-logs/20_image_build_log.txt."  # noqa: E501
                words = b"Step 3/7 : RUN conda env create\nERROR: Could not find a version that satisfies the requirement\n"  # noqa: E501
                self._keep(job.name, "azureml-logs/20_image_build_log.txt", words)
                self._over(job, "Failed", "build", {"code": "UserError", "message": text})
                return
            self._built.add(job.environment)
        self._later(job, seconds, self._start)

    def _start(self, job: Job) -> None:
        job.status = "Running"
        folder = self._folder / "machines" / f"{job.name}-{job.times}"
        serial = self._folder / "serial" / f"{job.name}-{job.times}.log"
        job.log.append(serial)
        variables = dict(job.properties.get("environmentVariables") or {})
        command = f"#!/bin/bash\n{job.properties['command']}\n"
        job.machine = Machine(
            job.name, f"{job.name}-{job.times}", folder, serial,
            {**self._environment(job), **variables, "AZUREML_RUN_ID": job.name}, command,
        )  # fmt: skip
        self._later(job, _LOOK_S, self._watch)

    def _watch(self, job: Job) -> None:
        assert job.machine is not None
        code = job.machine.code
        self._ship(job)
        if code is None:
            self._later(job, _LOOK_S, self._watch)
        elif code == 0:
            self._over(job, "Completed", "done", None)
        else:
            text = f"Execution failed. User process 'bash' exited with status code {code}."
            self._over(job, "Failed", "failed", {"code": "UserError", "message": text})

    def _end_job(self, job: Job, why: str) -> None:
        if job.status in OVER or job.ending:
            return
        job.ending = why
        if job.machine is None:
            self._ended(job)
            return
        if why != "preempt":
            job.status = "CancelRequested"
        grace = self.clock.real_s(self.physics.notice_s)
        machine = job.machine
        machine.shut_down(grace, lambda: self.scheduler.after(0.0, lambda: self._ended(job)))

    def _cut(self, job: Job, why: str) -> None:
        if job.machine is not None and not job.ending:
            job.ending = why
            job.machine.cut()
            self._ended(job)

    def _ended(self, job: Job) -> None:
        """Nothing of a job runs any more: over, or back into the queue."""
        why, job.ending = job.ending, ""
        if why == "preempt":
            self._free(job, "preempted")
            job.status = "Queued"
            self.scheduler.after(0.0, self._place)
        elif why == "crash":
            error = {"code": "ServiceError", "message": "The node of this job became unusable."}
            self._over(job, "Failed", "crashed", error)
        elif why == "timeout":
            text = "The job was cancelled because it exceeded its time limit."
            self._over(job, "Canceled", "time limit", {"code": "UserError", "message": text})
        else:
            self._over(job, "Canceled", "cancelled", None)

    def _over(self, job: Job, status: str, by: str, error: dict[str, str] | None) -> None:
        self._free(job, by)
        job.status, job.error = status, error
        self.scheduler.after(0.0, self._place)

    def _free(self, job: Job, by: str) -> None:
        if job.machine is not None:
            job.machine.cut()
            self._ship(job, whole=True)
            job.machine = None
        if job.node is not None:
            job.node.update(gone=self.clock.now(), ended_by=by)
            job.node = None

    def _ship(self, job: Job, whole: bool = False) -> None:
        """Keep what a job said, now and then, where clients look for it."""
        size = sum(path.stat().st_size for path in job.log if path.exists())
        now = int(time.monotonic() / _LOG_S)
        if size and (whole or now != job.shipped):
            job.shipped = now
            text = b"".join(path.read_bytes() for path in job.log if path.exists())
            self._keep(job.name, "user_logs/std_log.txt", text)

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
                             "tags": j.properties.get("tags") or {}}
                    for j in self.jobs.values()
                },
                "nodes": [
                    {**n, "lived_s": (n["gone"] or now) - n["born"]} for n in self.nodes
                ],
                "physics": self.physics.model_dump(),
            }  # fmt: skip

    def close(self) -> None:
        """Cut every node."""
        self.scheduler.close()
        for job in list(self.jobs.values()):
            if job.machine is not None:
                job.machine.tell(signal.SIGKILL)
                job.machine.cut()


def _seconds(text: str) -> float | None:
    """An ISO 8601 duration; None for none."""
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
