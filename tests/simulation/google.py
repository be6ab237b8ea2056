"""Google Compute Engine in the virtual world: the emulator's own service, without its threads.

Instances, groups, templates and operations follow the emulator's model of the documented states.
Replaced are its clock, its scheduler, and the processes of its machines.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

from drillyard.backend import Order
from drillyard.errors import DrillyardError
from drillyard_emulators.gcp.compute.model import FalseDone, Instance, StockOut
from drillyard_emulators.gcp.compute.operations import Operations
from drillyard_emulators.gcp.compute.service import ComputeService
from drillyard_emulators.gcp.compute.world import World as Compute
from drillyard_emulators.gcp.grants import Grant
from drillyard_emulators.gcp.project import Project
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.wire import Request, Response
from tests.simulation import patches
from tests.simulation.world import EPOCH, Host, Process

if TYPE_CHECKING:
    from tests.simulation.plan import Fault
    from tests.simulation.world import World

PROJECT = "simulated-project"
POWER_OFF_S = 600.0
"""The start-up script powers a machine off so long after its program has ended."""
LAST_WORDS = "the image has no program of drillyard"
ENVIRONMENT = {
    "DRILLYARD_GCP_PROJECT": PROJECT,
    "DRILLYARD_GCP_BUCKET": "simulated-bucket",
    "DRILLYARD_GCP_SERVICE_ACCOUNT": f"worker@{PROJECT}.iam.gserviceaccount.com",
    "DRILLYARD_GCP_ZONES": '["europe-west4-a", "europe-west4-b"]',
    "DRILLYARD_GCP_LISTING_LAG_S": "10",
    "DRILLYARD_GCP_CAPACITY_S": "300",
    "DRILLYARD_GCP_IDLE_S": "60",
}

OF_MACHINES = ("compute.instanceGroupManagers.get", "compute.instances.delete")
ZONES = json.loads(ENVIRONMENT["DRILLYARD_GCP_ZONES"])
OWN_TEMPLATE = "mine"
OWN_PROPERTIES = {
    "machineType": "e2-small",
    "networkInterfaces": [{"network": "global/networks/default"}],
    "disks": [{"boot": True, "initializeParams": {"sourceImage": "projects/p/global/images/i"}}],
}
"""A template of the user's."""


class VirtualClock:
    """See ``EmulatedClock``: it stands still between two steps of the world."""

    speed = 0.0

    def __init__(self, world: World) -> None:
        import threading

        self._world = world
        self.changed = threading.Condition()

    def now(self) -> float:
        """Epoch seconds."""
        return EPOCH + self._world.time

    def real_s(self, seconds: float) -> float:
        """Virtual seconds are the only ones."""
        return max(0.0, seconds)


class VirtualScheduler:
    """See ``Scheduler``: the world's agenda."""

    def __init__(self, clock: VirtualClock, lock: object) -> None:
        self._world = clock._world

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run an action at a time."""
        self._world.at(max(self._world.time, when - EPOCH), action)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action later."""
        self._world.at(self._world.time + seconds, action)

    def run_due(self) -> None:
        """The world does it."""

    close = run_due


class _Port:
    """A serial port: what the start-up script would say."""

    def __init__(self) -> None:
        self.text = "drillyard: starting the agent\n"

    def exists(self) -> bool:
        """It is there while its machine is."""
        return True

    def read_bytes(self) -> bytes:
        """All that was written."""
        return self.text.encode()


class VirtualMachine:
    """See ``Machine``: what runs on it are simulated processes."""

    def __init__(self, name: str, machine_id: str, *_: object) -> None:
        world = patches.world()
        self._world, self.name, self.code = world, name, None
        boot = f"boot-{machine_id}"
        self.host = Host(name, boot, world.plan.skew(f"vm{len(world.cloud.booted) + 1}"))
        world.cloud.booted.append(self)
        world.hosts[name] = self.host
        self.serial = _Port()
        self.instance = world.cloud.compute.instances.by_id[int(machine_id)]
        world.note("cloud", f"{name} boots")
        if world.cloud.useless_boots:
            world.cloud.useless_boots -= 1
            self.serial.text += f"drillyard: {LAST_WORDS}: this machine ends itself\n"
            self.host.hit = True
            world.at(world.time + 5.0, lambda: world.cloud.compute.instances.crash(self.instance))
        else:
            world.cloud.run_program(Vm(self.instance))

    def cut(self) -> None:
        """The power is off."""
        self._world.cut(self.host)

    def shut_down(self, grace_s: float, done: Callable[[], None]) -> None:
        """SIGTERM, then the cut."""
        self.serial.text += "drillyard: this machine is being stopped\n"
        for process in list(self.host.processes.values()):
            if process.kind == "worker":
                patches.signal_to(process, 15)

        def off() -> None:
            if not self.host.processes or self._world.time >= ends:
                self.cut()
                done()
            else:
                self._world.at(self._world.time + 1.0, off)

        ends = self._world.time + grace_s
        self._world.at(self._world.time + min(1.0, grace_s), off)


class Vm:
    """An instance, as events and invariants look at it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    @property
    def name(self) -> str:
        """Its name."""
        return self.instance.name

    @property
    def lease(self) -> str:
        """Its lease."""
        return self.instance.labels.get("drillyard-lease", "")

    @property
    def hosts(self) -> list[Host]:
        """Where its programs run."""
        machine: Any = self.instance.machine
        return [] if machine is None else [machine.host]

    @property
    def born_at(self) -> float:
        """When it was created."""
        return self.instance.created - EPOCH

    @property
    def gone_at(self) -> float | None:
        """When it was gone, or stopped for good."""
        return None if self.instance.gone is None else self.instance.gone - EPOCH

    @property
    def booted(self) -> bool:
        """Whether its program runs, or ran."""
        return self.instance.status == "RUNNING" and self.instance.machine is not None


class GoogleCloud:
    """The project of one schedule.

    Args:
        world: The virtual world.
    """

    refusals = (
        *((503, "backendError"), (503, "backendError"), (403, "rateLimitExceeded")),
        *((429, "rateLimitExceeded"), (500, "internalError")),
    )
    """Answers to a request that is refused for a moment."""

    def __init__(self, world: World) -> None:
        self._world = world
        clock: Any = VirtualClock(world)
        self.booted: list[VirtualMachine] = []
        self.useless_boots = 0
        """So many machines from now on end before they do any work."""
        faults = Faults(world.plan.seed)
        self.compute = Compute(
            clock,
            Project(PROJECT),
            faults,
            world.folder,
            lambda vm, *_: VirtualMachine(vm.name, str(vm.instance_id)),  # type: ignore[arg-type,return-value]
        )
        self.compute.catalogue.images.add("*")
        self.compute.catalogue.networks.add("*")
        lag = world.plan.listing_lag_s
        changes = {"boot_s": world.plan.boot_s, "operation_s": 1.0, "listing_lag_s": lag}
        fixed = {"notice_s": 25.0, "shutdown_s": 10.0, **world.plan.physics}
        self.compute.set_physics({**changes, **fixed})
        project = self.compute.project
        if world.random.random() < 0.5:  # the role that is shipped now; an earlier one had more
            project.granted[project.worker] = [Grant(frozenset(OF_MACHINES))]
        self.compute.furnish(OWN_TEMPLATE, OWN_PROPERTIES)
        self._service = ComputeService(self.compute)
        self._known = 0

    def app(self, request: Request) -> Response:
        """Answer a request."""
        if request.host != "compute.googleapis.com":
            return Response(404, b'{"error": {"code": 404, "message": "not simulated"}}')
        answer = self._service(request)
        instances = self.compute.instances.by_id
        if len(instances) > self._known:
            for instance in list(instances.values())[self._known :]:
                self._world.note("cloud", f"creates {instance.name}")
                self._world.after_change(f"cloud/{Vm(instance).lease}")
            self._known = len(instances)
        return answer

    @property
    def vms(self) -> list[Vm]:
        """Every instance, oldest first."""
        return [Vm(instance) for instance in self.compute.instances.by_id.values()]

    def caller(self, process: Process) -> str:
        """Whose identity a request of a process has."""
        project = self.compute.project
        return project.worker if process.kind in ("worker", "ticket") else project.user

    def trouble(self, fault: Fault, begins: bool) -> None:
        """Something is wrong from now on, or no longer."""
        physics, project = self.compute.physics, self.compute.project
        if fault.where == "full":
            zones = [zone for zone in ZONES if fault.who in ("", zone)]
            physics.stockouts = [StockOut(zone=zone) for zone in zones] if begins else []
        elif fault.where == "words":
            self.useless_boots = fault.left if begins else 0
        elif fault.where == "silent":
            physics.boot_failures = fault.left if begins else 0
        elif fault.where == "undeletable":
            physics.undeletable_s = fault.for_s if begins else 0.0
        elif fault.where == "unreachable":
            physics.unreachable = [f"zones/{ZONES[0]}"] if begins else []
        elif fault.where == "lies":
            rule = FalseDone(kind=fault.who, times=fault.left)
            physics.false_done = [rule] if begins else []
        elif fault.where == "no right":
            project.denied = {fault.who} if begins else set()
        else:
            raise AssertionError(fault)

    def left(self) -> list[str]:
        """What exists still."""
        compute = self.compute
        return [
            *(i.name for i in compute.instances.living.values()),
            *(g.key for g in compute.groups.living.values()),
            *(t for t in compute.templates if t not in compute.furnished),
            *compute.instances.disks,
        ]

    def gone(self, vm: Vm, ghost_s: float = 0.0) -> None:
        """Preempted without notice."""
        for host in vm.hosts:
            host.outlives_s = ghost_s
        self.compute.instances.preempt(vm.instance, notice=False)

    def end(self, vm: Vm, after_s: float) -> None:
        """Preempted with notice."""
        self.compute.instances.preempt(vm.instance)

    def run_program(self, vm: Vm) -> Process:
        """The program of a machine: the product's own, around the product's own worker."""
        from drillyard_backends.gcp import machine as program
        from drillyard_backends.gcp import naming

        world, instance = self._world, vm.instance
        host = world.hosts[instance.name]
        data = instance.metadata

        def body(process: Process) -> object:
            identity = program.Identity(
                name=instance.name,
                number=str(instance.instance_id),
                zone=instance.zone,
                project=PROJECT,
                group=data[naming.GROUP_KEY],
                order=Order.from_bytes(data[naming.ORDER_KEY].encode()),
                settings=json.loads(data.get(naming.MACHINE_KEY) or "{}"),
            )
            folder = world.folder / instance.name / str(process.pid)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                machine = program.Machine(identity, folder)
                return machine.run(_NoMetadata())  # type: ignore[arg-type]
            except DrillyardError as error:
                return int(error.exit_code)

        process = world.spawn(host, "worker", body, vm.lease)
        process.on_death.append(lambda: world.at(world.time + POWER_OFF_S, lambda: self._off(vm)))
        return process

    def _off(self, vm: Vm) -> None:
        instance = vm.instance
        machine = instance.machine
        alive = machine is not None and any(
            p.kind == "worker" for p in machine.host.processes.values()
        )
        if instance.gone is None and instance.status == "RUNNING" and not alive:
            self._world.note("cloud", f"{vm.name} powers itself off")
            self.compute.instances.crash(instance)


class _NoMetadata:
    """The notice of a preemption comes as SIGTERM from the host alone."""

    def when_preempted(self, call: Callable[[], None]) -> None:
        """Never."""


class _Signals:
    """In place of ``signal`` in the machine's program."""

    SIGTERM = 15

    @staticmethod
    def signal(number: int, handler: Callable[[int, object], None]) -> None:
        """Register a handler with the simulated process."""
        process = patches.current()
        assert process is not None
        process.on_term = lambda: handler(number, None)


@contextlib.contextmanager
def _nothing(_: object) -> Any:
    yield


def _worker(*args: Any, **more: Any) -> Any:
    from drillyard.worker.worker import Worker
    from tests.simulation.machine import SimMachine

    process = patches.current()
    assert process is not None
    return Worker(*args, machine=SimMachine(args[2], process), **more)


def _credentials(*_: object, **__: object) -> tuple[Any, str]:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials(), PROJECT


def install(undo: contextlib.ExitStack) -> None:
    """Replace what is below the backend."""
    from drillyard_backends.gcp.backend import GcpBackend
    from tests.simulation import wire

    wheel = f"code/{'0' * 64}.whl"
    for target, value in (
        ("drillyard_emulators.gcp.compute.world.Scheduler", VirtualScheduler),
        ("requests.adapters.HTTPAdapter.send", wire.send),
        ("google.auth.default", _credentials),
        ("drillyard_backends.wheel.send", lambda order: f"{order.experiment}/{wheel}"),
        ("drillyard_backends.gcp.machine.Worker", _worker),
        ("drillyard_backends.gcp.machine.signal", _Signals()),
        ("drillyard_backends.gcp.machine.temporary_below", _nothing),
    ):
        undo.enter_context(mock.patch(target, value))
    undo.enter_context(mock.patch.object(Operations, "wait", lambda self, operation: None))
    undo.enter_context(mock.patch.object(GcpBackend, "prepare_store", lambda self, url: None))
    undo.enter_context(mock.patch.dict("os.environ", ENVIRONMENT))
