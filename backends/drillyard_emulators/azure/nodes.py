"""Jobs on the nodes of their clusters: they wait, are prepared, run, and lose their nodes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from functools import partial

from drillyard.system.operating_system import KILL
from drillyard_emulators.azure.model import Compute, Job, Node, Physics, Site
from drillyard_emulators.azure.vm_sizes import SIZES
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.fields import text, text_fields
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.scheduler import Scheduler

_LOOK_S = 0.1
_LOG_S = 1.0
_HOST = "127.0.0.1"
_EVICTED = (
    "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the "
    "run has failed or restarted. Reason: Received pre-emption warning signal"
)
"""As people report it: github.com/MicrosoftDocs/azure-docs/issues/66288."""


NO_CORES = "ClusterCoreQuotaReached"


class Nodes:
    """All nodes that ever were, and the jobs that go over them.

    Args:
        clock: Its time.
        scheduler: Its future.
        physics: How long things take, and what goes wrong.
        computes: The clusters by name.
        site: Where jobs run.
    """

    def __init__(
        self,
        clock: EmulatedClock,
        scheduler: Scheduler,
        physics: Physics,
        computes: Mapping[str, Compute],
        site: Site,
    ) -> None:
        self._clock, self._scheduler, self._physics = clock, scheduler, physics
        self._computes, self._folder = computes, site.folder
        self._environment, self._keep, self._machine = site.environment, site.keep, site.boot
        self.jobs: dict[str, Job] = {}
        self.all: list[Node] = []
        self.started: list[Callable[[Job], None]] = []
        """Called with each job that starts to run."""
        self.too_large: set[str] = set()
        """Environments that are built of more than Azure takes."""
        self._built: set[str] = set()

    def add(self, job: Job) -> None:
        """A job waits for nodes from now on."""
        self.jobs[job.name] = job
        job.status = "Queued"
        if job.limit_s is not None:
            self._scheduler.after(job.limit_s, lambda: self.end(job, "timeout"))
        if self._physics.preparing_first and job.environment not in self._built:
            job.status = "Preparing"
            self._later(job, 0.0, lambda job: self._build(job, self._queue), on_node=False)
        else:
            self._scheduler.after(0.0, self.place)

    def _queue(self, job: Job) -> None:
        job.status = "Queued"
        self.place()

    def place(self) -> None:
        """Give nodes to jobs that wait, the oldest first."""
        for job in self.jobs.values():
            compute = self._computes.get(job.compute)
            if job.status != "Queued" or job.nodes or compute is None:
                continue
            size = text(compute.settings, "vmSize")
            if not self._is_free(compute, size, job.width):
                continue
            compute.errors = []
            if self._over_quota(compute, size.lower(), job.width):
                continue
            job.times += 1
            ready = self._physics.unready <= 0
            job.nodes = [
                {
                    "name": f"{job.name}/{job.times}" + (f".{rank}" if job.width > 1 else ""),
                    "job": job.name,
                    "compute": compute.name,
                    "size": size,
                    "low_priority": compute.low_priority,
                    "born": self._clock.now(),
                    "gone": None,
                    "ended_by": "",
                    "ready": ready,
                }
                for rank in range(job.width)
            ]
            self.all += job.nodes
            if ready:
                self._later(job, self._physics.node_s, self._prepare)
            else:
                self._physics.unready -= 1

    def _is_free(self, compute: Compute, size: str, nodes: int) -> bool:
        """Whether Azure has nodes of the size, and the cluster has room for them."""
        if {size.lower(), compute.region.lower()} & set(self._physics.full):
            return False
        busy = [n for n in self.all if n["gone"] is None]
        taken = sum(n["compute"] == compute.name for n in busy)
        if compute.state != "Succeeded" or self._broken(compute) or taken + nodes > compute.most:
            return False
        scarce = self._physics.low_priority
        if scarce is None or not compute.low_priority:
            return True
        return sum(n["low_priority"] for n in busy) + nodes <= scarce

    @staticmethod
    def _broken(compute: Compute) -> bool:
        """Whether a cluster has errors other than a lack of cores, which may end."""
        return any(error.get("code") != NO_CORES for error in compute.errors)

    def _over_quota(self, compute: Compute, size: str, nodes: int) -> bool:
        """Whether the quota has no room for nodes; the cluster says so."""
        most = self._physics.cores
        if most is None:
            return False
        sizes = {name.lower(): cores for name, (cores, _, _) in SIZES.items()}
        used = sum(sizes.get(n["size"].lower(), 0) for n in self.all if n["gone"] is None)
        more = nodes * sizes.get(size, 0)
        if used + more <= most:
            return False
        text = (
            "Operation results in exceeding quota limits of Core. Maximum allowed: "
            f"{most}, Current in use: {used}, Additional requested: {more}."
        )
        compute.errors = [{"code": NO_CORES, "message": text}]
        return True

    def end(self, job: Job, why: str) -> None:
        """Tell a job to end, and cut it when its notice is over.

        Args:
            job: Which.
            why: ``cancel``, ``timeout``; ``preempt``: it waits for other nodes then.
        """
        if job.over or job.ending or job.status == "Finalizing":
            return
        job.ending = why
        if why != "preempt" and job.status == "Running":
            job.status = "CancelRequested"
        if job.status == "CancelRequested" and self._physics.cancel_s:
            self._scheduler.after(self._physics.cancel_s, lambda: self._shut_down(job))
            return
        self._shut_down(job)

    def _shut_down(self, job: Job) -> None:
        """Tell the machines of a job to end; it is over when all have."""
        running = list(job.machines)
        if not running:
            self._ended(job)
        grace_s = self._clock.real_s(self._physics.notice_s)

        def one_less(machine: Machine) -> None:
            running.remove(machine)
            if not running:
                self._ended(job)

        for machine in list(running):
            step = partial(self._scheduler.after, 0.0, partial(one_less, machine))
            machine.shut_down(grace_s, step)

    def cut(self, job: Job, why: str) -> None:
        """Cut the power of a job's nodes.

        Args:
            job: Which.
            why: ``preempt``: it waits for other nodes; ``evict``, ``crash``: it fails.
        """
        if job.nodes and job.status == "Running" and not job.ending:
            job.ending = why
            for machine in job.machines:
                machine.cut()
            self._ended(job)

    def freeze(self, job: Job) -> None:
        """Everything on a job's nodes stands still."""
        for machine in job.machines:
            machine.freeze()

    def kill(self, job: Job) -> None:
        """A job's program is killed, as for want of memory; its nodes stay."""
        for machine in job.machines:
            machine.tell(KILL)

    def forget(self, name: str) -> None:
        """A job was deleted; its nodes are free."""
        self._free(self.jobs[name], "deleted")
        del self.jobs[name]

    def finish(self, job: Job, code: int) -> None:
        """A job's program ended by itself, with this exit code; what it wrote is collected."""
        job.status = "Finalizing"

        def over(job: Job) -> None:
            if code == 0:
                self._over(job, "Completed", "done", None)
                return
            text = f"Execution failed. User process 'bash' exited with status code {code}."
            self._over(job, "Failed", "failed", {"code": "UserError", "message": text})

        self._later(job, self._physics.finalize_s, over)

    def close(self) -> None:
        """Cuts every node."""
        for job in list(self.jobs.values()):
            for machine in job.machines:
                machine.tell(KILL)
                machine.cut()

    # -- a job's way --------------------------------------------------------------------------

    def _later(
        self, job: Job, delay_s: float, step: Callable[[Job], None], *, on_node: bool = True
    ) -> None:
        """Continues a job, unless its nodes have changed."""
        times = job.times

        def go_on() -> None:
            same = job.times == times and bool(job.nodes) is on_node
            if same and not job.ending and not job.over:
                step(job)

        self._scheduler.after(delay_s, go_on)

    def _prepare(self, job: Job) -> None:
        job.status = "Preparing"
        if self._physics.stuck > 0:
            self._physics.stuck -= 1
            return
        ready = partial(self._later, delay_s=self._physics.prepare_s, step=self._start)
        if job.environment in self._built:
            ready(job)
        else:
            self._build(job, ready)

    def _build(self, job: Job, then: Callable[[Job], None]) -> None:
        """The image of a job's environment is built, at its first use."""
        if job.environment in self.too_large:
            self._unbuilt(job, "Image build failed.")
            return
        if self._physics.broken_builds > 0:
            self._physics.broken_builds -= 1
            log = "azureml-logs/20_image_build_log.txt"
            words = f"Step 3/7 : RUN conda env create\n{self._physics.build_error}\n"
            self._keep(job.name, log, words.encode())
            self._unbuilt(job, f"Image build failed. For more details, check log file {log}.")
            return

        def built(job: Job) -> None:
            self._built.add(job.environment)
            then(job)

        self._later(job, self._physics.image_s, built, on_node=bool(job.nodes))

    def _unbuilt(self, job: Job, text: str) -> None:
        self._over(job, "Failed", "build", {"code": "UserError", "message": text})

    def _start(self, job: Job) -> None:
        job.status = "Running"
        if self._physics.processes:
            port = _free_port()
            job.machines = [self._boot(job, rank, port) for rank in range(job.width)]
            self._later(job, _LOOK_S, self._watch)
        for listener in self.started:
            listener(job)

    def _boot(self, job: Job, rank: int, port: int) -> Machine:
        name = f"{job.name}-{job.times}" + (f".{rank}" if job.width > 1 else "")
        serial = self._folder / "serial" / f"{name}.log"
        job.log.append(serial)
        ranks = (
            {}
            if job.width == 1
            else {
                "NODE_RANK": str(rank),
                "WORLD_SIZE": str(job.width),
                "MASTER_ADDR": _HOST,
                "MASTER_PORT": str(port),
            }
        )
        variables = {
            **self._environment(job),
            **text_fields(job.properties, "environmentVariables"),
            **ranks,
            "AZUREML_RUN_ID": job.name,
        }
        command = f"#!/bin/bash\n{job.properties['command']}\n"
        return self._machine(
            job.name, name, self._folder / "machines" / name, serial, variables, command
        )

    def _watch(self, job: Job) -> None:
        """Over when all its processes ended, or one failed."""
        codes = [machine.code for machine in job.machines]
        self._ship(job)
        failed = next((code for code in codes if code), None)
        if failed is not None:
            self.finish(job, failed)
        elif None in codes:
            self._later(job, _LOOK_S, self._watch)
        else:
            self.finish(job, 0)

    def _ended(self, job: Job) -> None:
        """No process of a job runs: it has ended, or it returns to the queue."""
        why, job.ending = job.ending, ""
        if why == "preempt":
            self._free(job, "preempted")
            job.status = "Queued"
            self._scheduler.after(0.0, self.place)
        elif why == "evict":
            self._over(job, "Failed", "preempted", {"code": "UserError", "message": _EVICTED})
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
        self._scheduler.after(0.0, self.place)

    def _free(self, job: Job, by: str) -> None:
        for machine in job.machines:
            machine.cut()
        self._ship(job, whole=True)
        for node in job.nodes:
            node["gone"], node["ended_by"] = self._clock.now(), by
        job.machines, job.nodes = [], []

    def _ship(self, job: Job, whole: bool = False) -> None:
        """Keep what a job said, now and then, where clients look for it."""
        size = sum(path.stat().st_size for path in job.log if path.exists())
        now = int(time.monotonic() / _LOG_S)
        if size and (whole or now != job.shipped):
            job.shipped = now
            text = b"".join(path.read_bytes() for path in job.log if path.exists())
            self._keep(job.name, "user_logs/std_log.txt", text)


def _free_port() -> int:
    """A port that is free now, for the first node of a job."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])
