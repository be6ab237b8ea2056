"""The programs of the simulated processes: the product's own, called as their commands do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drillyard.backend import open_backend
from drillyard.driver.compose import stages_of
from drillyard.driver.driver import Driver
from drillyard.driver.six_phases import drive
from drillyard.errors import AlreadyDriven, DrillyardError, InfrastructureError
from drillyard.leases.ledger import Ledger
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.leases.places import Places
from drillyard.leases.reaper.protecting import protect
from drillyard.leases.reaper.reaper import reap
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Cancel
from drillyard.mailbox.ticket_states import TicketState
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard.system.clock import SYSTEM
from drillyard.worker import loop
from drillyard.worker.worker import Worker
from tests.simulation.machine import SimMachine
from tests.simulation.provider import Vm, delete_self
from tests.simulation.studies import ONLY_LISTED, TUNABLES
from tests.simulation.world import Process, World

URL = "gs://simulated-bucket/runs"
NAME = "toy"
POWER_OFF_S = 3.0


STAGES: dict[str, tuple[str, ...]] = {"first": (), "last": ("first",), "other": ()}
"""Stage -> those that it waits for."""


def experiment(world: World) -> Loaded:
    """The experiment as its file is now."""
    plan, wish = world.plan, world.wish
    mock = {"duration_s": plan.duration_s}
    values: dict[str, Any] = {
        "name": NAME,
        "workload": "mock",
        "mock": mock,
        "seeds": list(range(1, wish.seeds + 1)),
        "resources": {"workers": plan.workers},
        "backend": _places(plan, wish.backend),
        "backends": {plan.backend: plan.settings} if plan.settings else {},
        "budget": {"max_hours": wish.max_hours, "max_cost": wish.max_cost, "stall_s": None},
    }
    if plan.study:
        values["study"] = {
            "chooser": plan.chooser,
            "trials": plan.study,
            "seed": 1,
            "objectives": [{"metric": "evaluate/score", "direction": "min"}],
            **plan.given.get("study", {}),
        }
        if plan.given.get("storage"):
            values["study"]["storage"] = f"sqlite:///{world.folder}/study.db"
        if plan.chooser in ONLY_LISTED:
            del values["study"]["trials"]
        else:
            values["study"]["trials"] += wish.trials
        mock.update(plan.given.get("mock", {}))
        values["seeds"] = plan.given.get("seeds", values["seeds"])
        params = {name: TUNABLES[name] for name in plan.given.get("tunables", ["x"])}
        values["parameters"] = {"tunables": {"own": {"params": params}}, "tunable_params": ["own"]}
    if plan.stages:
        # Another stage works on when one has failed for good.
        broken = any(fault.kind == "break_stage" for fault in plan.faults)
        longer = {"duration_s": 400.0} if broken else mock
        del values["mock"]
        values["workload"] = "composite"
        values["children"] = [
            {
                "name": name,
                "workload": "mock",
                "mock": longer if name == "other" else mock,
                "outputs": {"score": {"metric": "score"}},
                "inputs": {"start": f"{above[0]}.score"} if above else None,
            }
            for name, above in STAGES.items()
        ]
    spec = ExperimentSpec.model_validate(values)
    file = world.folder / "toy.yaml"
    return Loaded(
        spec=spec,
        provenance={},
        file=file,
        folder=world.folder,
        text="workload: mock\n",
        command=["drillyard", "run", "toy.yaml"],
    )


def _places(plan: Any, backend: str) -> list[str] | str:
    places = [backend, *(["dear"] if plan.places else []), *(["away"] if plan.elsewhere else [])]
    return places if len(places) > 1 else backend


def mailbox() -> Mailbox:
    """The experiment's mailbox, as a process of the product opens it."""
    return Mailbox(open_store(URL), NAME)


def run_command(world: World, where: str) -> Process:
    """``drillyard run toy.yaml`` on a machine of the user."""

    def body(process: Process) -> object:
        loaded = experiment(world)
        if world.plan.stages:
            return _stages(loaded)
        driver = Driver(loaded, mailbox(), Places.of_spec(loaded.spec))
        process.driver = driver  # type: ignore[attr-defined]
        try:
            if not driver.open():
                return "complete"
            outcome = drive(driver, report=False, say=lambda text: None)
        except AlreadyDriven:
            return "AlreadyDriven"
        except DrillyardError as error:
            return f"{type(error).__name__}: {error}"
        return f"{outcome.kind.value} {outcome.word} {outcome.error or ''}"

    return world.spawn(world.host(where), "driver", body)


def _stages(loaded: Loaded) -> object:
    """The same for a composite that is done in stages."""
    try:
        stages = stages_of(loaded, URL, say=lambda text: None, report=False)
        if not stages.open():
            return "complete"
        outcome = stages.run()
    except AlreadyDriven:
        return "AlreadyDriven"
    except DrillyardError as error:
        return f"{type(error).__name__}: {error}"
    return f"{outcome.kind.value} {outcome.word} {outcome.error or ''}"


def reap_command(world: World, where: str = "office") -> Process:
    """``drillyard reap`` on a machine that has rented nothing."""

    def body(_: Process) -> object:
        second = world.plan.places or any(f.kind == "move" for f in world.plan.faults)
        on = [world.plan.backend, *(["dear"] if second else [])]
        report = reap(on, home=world.folder / "home" / where)
        return [(o.lease.lease_id, o.judgement.verdict.value, o.problem) for o in report.outcomes]

    return world.spawn(world.host(where), "reaper", body)


def cancel_command(world: World, where: str) -> Process:
    """``drillyard cancel toy``."""

    def body(_: Process) -> object:
        try:
            order = Cancel(reason="on request", by="person", written_at=SYSTEM.now())
            mailbox().write("control/cancel.json", order)
        except DrillyardError as error:
            return str(error)
        return "cancelled"

    return world.spawn(world.host(where), "person", body)


def protect_command(world: World, where: str, for_s: float) -> Process:
    """``drillyard protect`` for the newest lease; for no time: its end."""

    def body(_: Process) -> object:
        try:
            entries = Ledger(mailbox(), SYSTEM).entries()
            lease = max(entries, key=lambda e: e.intent.ordinal).lease.lease_id
            until = SYSTEM.now() + for_s
            # From a machine that knows no store, as a listing of the provider shows it.
            store = URL if world.random.random() < 0.7 else str(world.folder / "empty")
            protect(lease, until, store=store, on=[world.plan.backend])
            world.protected[lease] = world.time, world.time + for_s
        except (DrillyardError, ValueError, ConnectionError) as error:
            return str(error)
        return f"protected {lease}"

    return world.spawn(world.host(where), "person", body)


def machine_program(world: World, vm: Vm) -> Process:
    """The program of a rented machine: a worker, then the machine's own end."""

    def body(process: Process) -> object:
        order, slots = vm.order, world.plan.slots
        if world.plan.hosts:  # as ``simulator.copies_on: workers`` orders them
            order = order.model_copy(update={"hosts": 1})
        box = mailbox()
        backend = open_backend(vm.kind)
        closer = LostAttemptCloser(box, backend, Ledger(box, SYSTEM), f"machine {vm.name}", SYSTEM)

        def close_lost(states: Mapping[str, TicketState]) -> None:
            try:
                closer.close_lost(states)
            except InfrastructureError:
                return

        worker = Worker(
            order,
            world.folder / vm.name / str(process.pid),
            slots,
            machine=SimMachine(slots, process),
            paid=True,
            close_lost=close_lost,
        )
        code = loop.run(worker)
        while not worker.terminated and vm.ending_at is None and vm.gone_at is None:
            try:
                delete_self(vm)
            except (DrillyardError, ConnectionError):
                world.sleep(20.0)
        return code

    process = world.spawn(vm.host, "worker", body, vm.order.lease_id)
    # The start-up script powers the machine off once its program has ended, however it ended.
    process.on_death.append(lambda: world.at(world.time + POWER_OFF_S, lambda: _off(world, vm)))
    return process


def _off(world: World, vm: Vm) -> None:
    if not any(p.kind == "worker" for p in vm.host.processes.values()):
        world.cloud.gone(vm)
