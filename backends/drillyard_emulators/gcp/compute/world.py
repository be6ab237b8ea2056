"""The state of Compute Engine: everything that exists, changed by one scheduler under one lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from drillyard_emulators.gcp.compute.catalogue import Catalogue
from drillyard_emulators.gcp.compute.groups import Groups
from drillyard_emulators.gcp.compute.instances import Instances
from drillyard_emulators.gcp.compute.model import Group, Instance, Physics, Template
from drillyard_emulators.gcp.compute.operations import Operations
from drillyard_emulators.gcp.project import Project
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.emulator import change
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.fields import Document, Fields
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.scheduler import Scheduler

API = "https://www.googleapis.com/compute/v1"


class World:
    """All of Compute Engine's state.

    Args:
        clock: Emulated time.
        project: Who may do what.
        faults: For their random numbers.
        folder: For the machines.
        boot: Starts a machine, in a folder (second) and with a serial port (third).
    """

    def __init__(
        self,
        clock: EmulatedClock,
        project: Project,
        faults: Faults,
        folder: Path,
        boot: Callable[[Instance, Path, Path], Machine],
    ) -> None:
        self.clock, self.project, self.faults = clock, project, faults
        self.api = f"{API}/projects/{project.project_id}"
        self.lock = threading.RLock()
        self.physics = Physics()
        self.catalogue = Catalogue()
        self.scheduler = Scheduler(clock, self.lock)
        self.operations = Operations(clock, self.api, self.lock)
        self.templates: dict[str, Template] = {}
        self.past_templates: list[Template] = []
        self.furnished: set[str] = set()
        """Templates that existed from the start."""
        self.instances = Instances(
            clock, self.scheduler, self.catalogue, self.physics, faults, folder, boot
        )
        self.groups = Groups(clock, self.scheduler, self.instances, self.templates)

    def set_physics(self, changes: Fields) -> None:
        """Change how the emulated cloud behaves.

        Raises:
            pydantic.ValidationError: No such quantity, or a bad value.
        """
        with self.lock:
            change(self.physics, changes)

    def unreachable(self, places: list[str]) -> list[str]:
        """The places that a list of all of them does not reach now."""
        with self.lock:
            if self.physics.unreachable_lists <= 0:
                return self.physics.unreachable
            self.physics.unreachable_lists -= 1
            return places

    def lies(self, kind: str, target: str) -> bool:
        """Whether this operation reports DONE and does nothing."""
        for rule in self.physics.false_done:
            if rule.times is not None and rule.played >= rule.times:
                continue
            if rule.kind != kind or rule.match not in target:
                continue
            if self.faults.random.random() < rule.probability:
                rule.played += 1
                return True
        return False

    def listed_instances(self) -> list[Instance]:
        """Instances as lists show them: late."""
        now = self.clock.now()
        instances = self.instances.by_id.values()
        return [vm for vm in instances if vm.listed_from <= now and _seen(vm, now)]

    def listed_groups(self) -> list[Group]:
        """Groups as lists show them: late."""
        now = self.clock.now()
        past = [group for group in self.groups.past if now < group.listed_until]
        return [g for g in [*self.groups.living.values(), *past] if g.listed_from <= now]

    def listed_templates(self) -> list[Template]:
        """Templates as lists show them: late."""
        now = self.clock.now()
        past = [each for each in self.past_templates if now < each.listed_until]
        return [each for each in [*self.templates.values(), *past] if each.listed_from <= now]

    def furnish(self, name: str, properties: Document) -> None:
        """Adds a template that exists from the start."""
        with self.lock:
            template = Template(
                self.instances.next_id(),
                name,
                "global",
                {"name": name, "properties": properties},
                self.clock.now(),
            )
            self.templates[template.key] = template
            self.furnished.add(template.key)

    def happen(self, what: str, name: str) -> None:
        """Applies an event to a machine as soon as the scheduler is free.

        Args:
            what: ``preempt``, ``cut``, ``crash``, ``abandon`` or ``hang``.
            name: Name or number of the machine.

        Raises:
            KeyError: No such machine.
            ValueError: Nothing of that name can happen.
        """
        living = self.instances.living.values()
        known = {key: vm for vm in living for key in (str(vm.instance_id), vm.name)}
        instance = known[name]
        deeds = {
            "preempt": lambda: self.instances.preempt(instance),
            "cut": lambda: self.instances.preempt(instance, notice=False),
            "crash": lambda: self.instances.crash(instance),
            "abandon": lambda: self.groups.abandon(instance),
            "hang": lambda: instance.machine.freeze() if instance.machine else None,
        }
        if what not in deeds:
            raise ValueError(f"{what!r}: what can happen is {', '.join(deeds)}")
        self.scheduler.after(0.0, deeds[what])

    def state(self) -> Document:
        """Everything that exists, and every machine that ever did, for the account."""
        with self.lock:
            now = self.clock.now()
            every = sorted(self.instances.by_id.values(), key=lambda one: one.created)
            return {
                "machines": [m for m in map(_account, every) if m["gone"] is None],
                "all_machines": [{**_account(m), "lived_s": _lived(m, now)} for m in every],
                "groups": [
                    {
                        "key": group.key,
                        "target": group.target,
                        "managed": {n: m.action for n, m in group.managed.items()},
                        "deleting": group.deleting,
                    }
                    for group in self.groups.living.values()
                ],
                "templates": sorted(self.templates),
                "furnished": sorted(self.furnished),
                "disks": sorted(self.instances.disks),
                "physics": self.physics.model_dump(mode="json"),
            }

    def close(self) -> None:
        """Ends all machines."""
        self.scheduler.close()
        with self.lock:
            self.instances.close()


def _seen(instance: Instance, now: float) -> bool:
    return instance.gone is None or now < instance.listed_until


def _account(instance: Instance) -> Document:
    return {
        "name": instance.name,
        "id": str(instance.instance_id),
        "zone": instance.zone,
        "status": instance.status,
        "machine_type": instance.machine_type,
        "accelerators": instance.properties.get("guestAccelerators") or [],
        "spot": instance.spot,
        "group": instance.group,
        "labels": instance.labels,
        "created": instance.created,
        "started": instance.started,
        "gone": instance.gone,
        "preempted": instance.preempted,
        "ended_by": instance.ended_by,
    }


def _lived(instance: Instance, now: float) -> float:
    started = instance.started if instance.started is not None else instance.created
    return (instance.gone if instance.gone is not None else now) - started
