"""Azure ML in the virtual world: the emulator's workspace, without its threads and sign-ins."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from drillyard.backend import Order
from drillyard.errors import DrillyardError
from drillyard.mailbox import open_store
from drillyard.mailbox.patience import persist
from drillyard.mailbox.status import Status
from drillyard_backends.azure import clusters, naming
from drillyard_backends.azure import job as program
from drillyard_emulators.azure import manager
from drillyard_emulators.azure.answers import Denied, refused
from drillyard_emulators.azure.entra import CLIENT
from drillyard_emulators.azure.history import history
from drillyard_emulators.azure.model import Job, Site
from drillyard_emulators.azure.world import World as Workspace
from drillyard_emulators.http.wire import Request, Response
from tests.simulation import patches
from tests.simulation.google import VirtualClock, VirtualScheduler
from tests.simulation.world import EPOCH, Host, Process

if TYPE_CHECKING:
    from tests.simulation.plan import Fault
    from tests.simulation.world import World

CALLER = CLIENT
_SIGN_IN = ("login", "rest", "service", "store")
ENVIRONMENT = {
    "DRILLYARD_AZURE_SUBSCRIPTION_ID": manager.Manager.subscription,
    "DRILLYARD_AZURE_RESOURCE_GROUP": manager.Manager.group,
    "DRILLYARD_AZURE_WORKSPACE": manager.Manager.workspace,
    "DRILLYARD_AZURE_ACCOUNT": "simulated",
    "DRILLYARD_AZURE_CONTAINER": "simulated",
    "DRILLYARD_AZURE_IMAGE": "simulated:1",
    "DRILLYARD_AZURE_LISTING_LAG_S": "10",
    "DRILLYARD_AZURE_PREPARING_S": "120",
    "DRILLYARD_AZURE_BUILD_S": "120",
    program.LOW_PRIORITY: "1",
}


class VirtualNode:
    """See ``Machine``: the program of a job is a simulated process."""

    def __init__(self, job: str, name: str, _folder: Any, _serial: Any, env: Any, _: str) -> None:
        world = self._world = patches.world()
        self.env = dict(env)
        rank = self.env.get(program.RANK)
        here = job if rank is None else f"{job}-{rank}"
        self.host = world.hosts[here] = Host(here, f"boot-{name}", world.plan.skew("vm1"))
        world.note("cloud", f"{name} runs")
        self.cut_off = False
        self.processes = [world.cloud.start(self)]

    @property
    def code(self) -> int | None:
        """Exit code of the program."""
        process = self.processes[0]
        if process.alive:
            return None
        return process.result if isinstance(process.result, int) else 137

    def tell(self, number: int) -> None:
        """Signal the program."""
        for process in list(self.host.processes.values()):
            if process.kind == "worker":
                patches.signal_to(process, int(number))

    def freeze(self) -> None:
        """Everything on it stands still."""
        self.host.sleep(self._world.time, 1e9)

    def cut(self) -> None:
        """The power is off."""
        self._world.cut(self.host)

    def shut_down(self, grace_s: float, done: Callable[[], None]) -> None:
        """SIGTERM, then the cut."""
        self.tell(15)
        ends = self._world.time + grace_s

        def off() -> None:
            if not self.host.processes or self._world.time >= ends:
                self.cut()
                done()
            else:
                self._world.at(self._world.time + 1.0, off)

        self._world.at(self._world.time + min(1.0, grace_s), off)


class Handed:
    """See ``Pusher``: one ticket, and then the end."""

    def __init__(self, ticket: str) -> None:
        self._ticket = ticket
        self._gone: Callable[[], None] = lambda: None

    def listen(self, hand: Callable[[str], None], gone: Callable[[], None]) -> None:
        """Hand the ticket."""
        self._gone = gone
        process = patches.current()
        assert process is not None
        patches.world().thread(process, lambda: hand(self._ticket))

    def over(self, ticket: str, status: Status) -> None:
        """The worker has finished with it."""
        self._gone()


class Vm:
    """A node, as events and invariants look at it."""

    def __init__(self, node: Any, job: Job | None) -> None:
        self.node, self.job = node, job
        self.name = str(node["name"])
        self.born_at = float(node["born"]) - EPOCH
        self.gone_at = None if node["gone"] is None else float(node["gone"]) - EPOCH
        self.lease = "" if job is None else str(job.tags.get(naming.LEASE_TAG, ""))

    @property
    def hosts(self) -> list[Host]:
        """Where its programs run."""
        machines: Any = [] if self.job is None else self.job.machines
        return [machine.host for machine in machines]

    @property
    def booted(self) -> bool:
        """Whether its job runs."""
        return self.job is not None and self.job.status == "Running" and bool(self.job.machines)


class AzureCloud:
    """The workspace of one schedule.

    Args:
        world: The virtual world.
    """

    refusals = (
        *((503, "ServiceUnavailable"), (503, "ServiceUnavailable"), (429, "TooManyRequests")),
        (500, "ServiceError"),
    )
    """Answers to a request that is refused for a moment."""

    def __init__(self, world: World) -> None:
        self._world = world
        clock: Any = VirtualClock(world)
        boot: Any = VirtualNode
        site = Site(world.folder, lambda job: {}, lambda job, name, data: None, boot)
        self.workspace = Workspace(clock, site)
        physics, plan = self.workspace.physics, world.plan
        physics.create_s, physics.node_s, physics.prepare_s = plan.boot_s, plan.boot_s, 2.0
        physics.image_s, physics.finalize_s, physics.notice_s = 5.0, 3.0, 25.0
        physics.listing_lag_s, physics.visible_s = plan.listing_lag_s, plan.listing_lag_s / 4
        dice = world.random
        physics.repeats, physics.preparing_first = dice.random() < 0.5, dice.random() < 0.5
        for name, value in plan.physics.items():
            setattr(physics, name, value)
        entra: Any = SimpleNamespace(who=lambda *_: CALLER, identity=lambda *_: object())
        blobs: Any = SimpleNamespace(
            account="simulated", key="a2V5", hierarchical=False, names=lambda *_: [], folder=None
        )
        containers = ("simulated", "artifacts")
        made = manager.Manager(self.workspace, entra, blobs, containers, lambda name: {})
        self._apps = {
            manager.HOST: made,
            f"{made.location}.api.azureml.ms": history(made.access, self.workspace, entra),
        }
        self._now = clock.now

    def app(self, request: Request) -> Response:
        """Answer a request."""
        serve = self._apps.get(request.host)
        if serve is None:  # what jobs left in the storage: nothing
            return Response(404, b"", {"x-ms-error-code": "BlobNotFound"})
        job = self.workspace.jobs.get(request.path.rpartition("/jobs/")[2])
        lag_s = self._world.plan.listing_lag_s
        if request.method == "GET" and job is not None and self._now() - job.made < lag_s:
            return refused(404, "UserError", f"Job {job.name} was not found.")
        answer: Response = serve(request)
        return answer

    def caller(self, process: Process) -> str:
        """Whose identity a request of a process has."""
        return CALLER

    def trouble(self, fault: Fault, begins: bool) -> None:
        """Something is wrong from now on, or no longer."""
        physics, jobs = self.workspace.physics, self.workspace.jobs.values()
        if fault.where == "full":
            physics.low_priority = 0 if begins else None
            physics.full = [self._apps[manager.HOST].location] if begins else []
        elif fault.where == "cores":
            physics.cores = 0 if begins else None
        elif fault.where == "unready":
            physics.unready = fault.left if begins else 0
        elif fault.where == "stuck":
            physics.stuck = fault.left if begins else 0
        elif fault.where == "build":
            physics.broken_builds = fault.left if begins else 0
        elif fault.where == "frozen":
            physics.cancel_s = fault.for_s if begins else 0.0
        elif fault.where == "not heard":
            for job in jobs:
                job.silent = begins and job.status == "Running"
                self._hit(job)
        elif fault.where == "broken":
            for compute in self.workspace.computes.values():
                compute.state = "Failed" if begins else "Succeeded"
                error = {"code": "AllocationFailed", "message": "simulated"}
                compute.errors = [error] if begins else []
        elif fault.where == "deleted" and begins:
            for job in jobs:
                self._hit(job)
            for name in list(self.workspace.computes):
                with contextlib.suppress(Denied):
                    self.workspace.delete_compute(name)
        elif fault.where != "deleted":
            raise AssertionError(fault)
        self.workspace.nodes.place()

    @staticmethod
    def _hit(job: Job) -> None:
        for machine in job.machines:
            machine.host.hit = True  # type: ignore[attr-defined]

    @property
    def vms(self) -> list[Vm]:
        """Every node, oldest first."""
        return [Vm(n, self.workspace.jobs.get(n["job"])) for n in self.workspace.nodes.all]

    def left(self) -> list[str]:
        """What exists still."""
        jobs = (f"job {j.name}" for j in self.workspace.jobs.values() if not j.over)
        nodes = (vm.name for vm in self.vms if vm.gone_at is None)
        own = (name for name in self.workspace.computes if clusters.lease_of(name) is not None)
        return [*jobs, *nodes, *(f"cluster {name}" for name in own)]

    def gone(self, vm: Vm, ghost_s: float = 0.0) -> None:
        """Preempted without notice: the job fails, or waits for another node."""
        if vm.job is not None:
            for host in vm.hosts:
                host.outlives_s = ghost_s
            self.workspace.nodes.cut(vm.job, self._world.random.choice(["preempt", "evict"]))

    def end(self, vm: Vm, after_s: float) -> None:
        """Preempted with notice."""
        if vm.job is not None:
            self.workspace.nodes.end(vm.job, "preempt")

    def run_program(self, vm: Vm) -> None:
        """A second program on a node."""
        if vm.job is not None and vm.job.machines:
            node: Any = vm.job.machines[0]
            self.start(node)

    def start(self, node: VirtualNode) -> Process:
        """The program of a job: the product's worker for one ticket."""
        from drillyard.worker import loop
        from tests.simulation.machine import SimMachine

        world, env = self._world, node.env

        def body(process: Process) -> object:
            try:
                store = open_store(env[program.STORE])
                data = persist(lambda: store.get(env[program.ORDER_KEY]))
            except DrillyardError as error:
                return int(error.exit_code)
            order = Order.from_bytes(data)
            process.mark = order.lease_id
            slots = int(env.get(program.SLOTS, "1"))
            given: dict[str, Any] = {"term_grace_s": float(env.get(program.GRACE, "20"))}
            make: Any = program.NodeWorker
            if slots * int(env.get(program.WIDTH, "1")) > 1:
                given["paid"] = True
            else:
                make, given["pusher"] = program.JobWorker, Handed(env[program.TICKET])
            folder = world.folder / node.host.name / str(process.pid)
            worker = make(order, folder, slots, machine=SimMachine(slots, process), **given)
            return loop.run(worker)

        return world.spawn(node.host, "worker", body)


class _Credential:
    def get_token(self, *_: str, **__: Any) -> Any:
        """A token that never ends."""
        from azure.core.credentials import AccessToken

        return AccessToken("simulated", int(EPOCH) + 10**9)


def install(undo: contextlib.ExitStack) -> None:
    """Replace what is below the backend."""
    from drillyard_backends.azure.backend import AzureBackend

    for target, value in (
        ("drillyard_emulators.azure.world.Scheduler", VirtualScheduler),
        ("drillyard_emulators.azure.nodes._LOOK_S", 1.0),
        ("drillyard_emulators.azure.nodes._free_port", lambda: 1),
        *((f"drillyard_backends.azure.{name}.credential", _Credential) for name in _SIGN_IN),
    ):
        undo.enter_context(mock.patch(target, value))
    undo.enter_context(mock.patch.object(AzureBackend, "prepare_store", lambda self, url: None))
    undo.enter_context(mock.patch.dict("os.environ", ENVIRONMENT))
