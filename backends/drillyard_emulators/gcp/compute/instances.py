"""Instances: how a machine is created, runs, is preempted and is deleted, with its disks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from drillyard_emulators.gcp.compute.catalogue import (
    Catalogue,
    machine_type,
    needed_quotas,
    region_of,
)
from drillyard_emulators.gcp.compute.model import Disk, Instance, Physics
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.fields import (
    Document,
    Fields,
    member,
    members,
    number,
    text,
    text_fields,
)
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.scheduler import Scheduler

Ended = Callable[[Instance, str], None]
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class NoCapacity(Exception):
    """A machine cannot be created now.

    Args:
        code: Google's word.
        message: For people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error: Document = {"code": code, "message": message}


class Instances:
    """All machines that exist or ever did.

    Args:
        clock: Emulated time.
        scheduler: For what happens later.
        catalogue: What there is to rent.
        physics: How the world behaves.
        faults: Their random numbers are used here too.
        folder: For the machines' disks and serial ports.
        boot: Starts a machine, in a folder (second) and with a serial port (third).
    """

    def __init__(
        self,
        clock: EmulatedClock,
        scheduler: Scheduler,
        catalogue: Catalogue,
        physics: Physics,
        faults: Faults,
        folder: Path,
        boot: Callable[[Instance, Path, Path], Machine],
    ) -> None:
        self._clock, self._scheduler, self._catalogue = clock, scheduler, catalogue
        self.physics, self._faults, self._folder, self._start = physics, faults, folder, boot
        self.living: dict[str, Instance] = {}
        self.by_id: dict[int, Instance] = {}
        self.disks: dict[str, Disk] = {}
        self.booted: list[Callable[[Instance], None]] = []
        """Called with each instance that has booted."""
        self.ended: list[Ended] = []
        """Called with each instance that stopped by itself, and the reason."""
        self._next = 4_000_000_000_000_000_000

    def next_id(self) -> int:
        """A number that no resource had before."""
        self._next += 1
        return self._next

    def lag(self) -> float:
        """The random lag of one resource in lists."""
        most = self.physics.listing_lag_s
        return self._faults.random.uniform(min(self.physics.listing_lag_least_s, most), most)

    def check_room(self, zone: str, properties: Fields) -> None:
        """Checks whether a machine can be created.

        Raises:
            NoCapacity: Stock-out, quota, or a type that the zone does not have.
        """
        kind = str(properties["machineType"]).rpartition("/")[2]
        scheduling = member(properties, "scheduling")
        spot = scheduling.get("provisioningModel") == "SPOT"
        known = machine_type(kind)
        if known is None or not self._catalogue.has(zone, kind):
            message = f"Machine type with name '{kind}' does not exist in zone '{zone}'."
            raise NoCapacity("INVALID_FIELD_VALUE", message)
        ends = text(scheduling, "terminationTime")
        if ends and _epoch(ends) <= self._clock.now():
            # No page says so; the other answer is a machine that ends at once.
            message = (
                f"Invalid value for field 'scheduling.terminationTime': {ends} is in the past."
            )
            raise NoCapacity("INVALID_FIELD_VALUE", message)
        accelerators = {
            str(a["acceleratorType"]).rpartition("/")[2]: int(number(a, "acceleratorCount", 1))
            for a in members(properties, "guestAccelerators")
        }
        for name in accelerators:
            if not self._catalogue.has(zone, name):
                message = f"The resource 'zones/{zone}/acceleratorTypes/{name}' was not found"
                raise NoCapacity("RESOURCE_NOT_FOUND", message)
        for stock_out in self.physics.stockouts:
            if stock_out.hits(zone, kind, spot):
                stock_out.played += 1
                message = f"The zone '{zone}' does not have enough resources available to fulfil"
                code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
                raise NoCapacity(code, f"{message} the request for a {kind} VM instance.")
        region = region_of(zone)
        limits, used = self._catalogue.limits(region), self.usage(region)
        for metric, amount in self._needs(properties).items():
            limit = limits.get(metric, float("inf"))
            if used.get(metric, 0.0) + amount > limit:
                message = f"Quota '{metric}' exceeded. Limit: {limit} in region {region}."
                raise NoCapacity("QUOTA_EXCEEDED", message)

    def usage(self, region: str) -> dict[str, float]:
        """What living machines take of a region's quotas."""
        used: dict[str, float] = {}
        for instance in self.living.values():
            if region_of(instance.zone) == region and instance.status != "TERMINATED":
                for metric, amount in self._needs(instance.properties).items():
                    used[metric] = used.get(metric, 0.0) + amount
        return used

    def create(
        self,
        zone: str,
        name: str,
        properties: Fields,
        metadata: Mapping[str, str],
        group: str | None = None,
    ) -> Instance:
        """A new machine, which boots by itself.

        Raises:
            NoCapacity: There is no room for it.
        """
        self.check_room(zone, properties)
        now = self._clock.now()
        base = {i["key"]: i.get("value", "") for i in metadata_items(properties)}
        instance = Instance(
            self.next_id(),
            name,
            zone,
            dict(properties),
            {**base, **metadata},
            text_fields(properties, "labels"),
            now,
            group,
            listed_from=now + self.lag(),
        )
        for index, disk in enumerate(members(properties, "disks") or [{}]):
            instance.disks.append(self._disk(instance, index, disk))
        self.living[instance.key] = instance
        self.by_id[instance.instance_id] = instance
        self._scheduler.after(self.physics.boot_s, lambda: self._boot(instance))
        return instance

    def preempt(self, instance: Instance, notice: bool = True) -> None:
        """Take a machine away: with the usual notice, or by cutting its power."""
        if instance.status not in ("RUNNING", "PROVISIONING"):
            return
        instance.preempted = True
        self._scheduler_notify(instance)
        grace = self.physics.notice_s if notice else 0.0
        self._stop(instance, grace, "preempted", self._after_loss)

    def crash(self, instance: Instance) -> None:
        """The host fails without notice."""
        if instance.status in ("RUNNING", "PROVISIONING"):
            self._stop(instance, 0.0, "crashed", self._after_crash)

    def delete(self, instance: Instance, why: str = "deleted", done: Ended | None = None) -> None:
        """Delete a machine and its auto-deleted disks; its processes get a notice first."""

        def after(one: Instance, reason: str) -> None:
            self._remove(one)
            if done is not None:
                done(one, reason)

        if instance.gone is None:
            self._stop(instance, self.physics.shutdown_s, why, after)

    def close(self) -> None:
        """Cut the power of everything."""
        for instance in list(self.living.values()):
            if instance.machine is not None:
                instance.machine.cut()

    def _needs(self, properties: Fields) -> dict[str, float]:
        kind = machine_type(str(properties["machineType"]).rpartition("/")[2])
        assert kind is not None, "was checked before the machine was made"
        scheduling = member(properties, "scheduling")
        interfaces = members(properties, "networkInterfaces")
        return needed_quotas(
            kind,
            scheduling.get("provisioningModel") == "SPOT",
            {
                str(a["acceleratorType"]).rpartition("/")[2]: int(number(a, "acceleratorCount", 1))
                for a in members(properties, "guestAccelerators")
            },
            sum(
                int(number(member(disk, "initializeParams"), "diskSizeGb") or 10)
                for disk in members(properties, "disks")
            ),
            any(interface.get("accessConfigs") for interface in interfaces),
        )

    def _disk(self, instance: Instance, index: int, wanted: Fields) -> Disk:
        asked = member(wanted, "initializeParams")
        name = instance.name if index == 0 else f"{instance.name}-{index}"
        disk = Disk(
            self.next_id(),
            name,
            instance.zone,
            int(number(asked, "diskSizeGb") or 10),
            text(asked, "diskType", "pd-standard").rpartition("/")[2],
            text_fields(asked, "labels"),
            # False is the API's own default: forgetting it leaks disks.
            bool(wanted.get("autoDelete", False)),
            self._clock.now(),
            instance.name,
        )
        self.disks[f"zones/{disk.zone}/disks/{disk.name}"] = disk
        return disk

    def _boot(self, instance: Instance) -> None:
        if instance.status != "PROVISIONING":
            return
        instance.status, instance.started = "RUNNING", self._clock.now()
        limit = member(instance.scheduling, "maxRunDuration").get("seconds")
        ends = text(instance.scheduling, "terminationTime")
        if ends:
            limit = max(0.0, _epoch(ends) - self._clock.now())
        if limit is not None:
            self._scheduler.after(float(str(limit)), lambda: self._expire(instance))
        fails = self.physics.boot_failures > 0
        if fails:
            self.physics.boot_failures -= 1
            return
        for listener in self.booted:
            listener(instance)
        if not self.physics.processes:
            return
        folder = self._folder / "machines" / str(instance.instance_id)
        serial = self._folder / "serial" / f"{instance.name}-{instance.instance_id}.log"
        instance.machine = self._start(instance, folder, serial)

    def _expire(self, instance: Instance) -> None:
        if instance.status != "RUNNING":
            return
        if instance.scheduling.get("instanceTerminationAction") == "DELETE":
            self._stop(instance, self.physics.notice_s, "reached its limit", self._after_limit)
        else:
            self._stop(instance, self.physics.notice_s, "reached its limit", self._after_crash)

    def _stop(self, instance: Instance, grace_s: float, why: str, then: Ended) -> None:
        """Once only: the first reason counts; a deletion that comes later still deletes."""
        if instance.status == "STOPPING":
            if why == "deleted" and instance.ended_by != "deleted":
                instance.ended_by = "deleted"
                self._again(instance, then)
            return
        instance.ended_by = why
        before, instance.status = instance.status, "STOPPING"
        if instance.machine is None or before == "TERMINATED":
            self._scheduler.after(0.0, lambda: then(instance, why))
            return
        real = self._clock.real_s(grace_s) if grace_s > 0 else 0.0
        if grace_s == 0:
            instance.machine.cut()
            self._scheduler.after(0.0, lambda: then(instance, why))
        else:
            done = self._scheduler
            instance.machine.shut_down(real, lambda: done.after(0.0, lambda: then(instance, why)))

    def _again(self, instance: Instance, then: Ended) -> None:
        """A deletion behind another end: wait for that, then delete."""

        def look() -> None:
            if instance.gone is not None:
                return
            if instance.status == "STOPPING":
                self._scheduler.after(0.05, look)
            else:
                self._stop(instance, 0.0, "deleted", then)

        self._scheduler.after(0.0, look)

    def _after_loss(self, instance: Instance, why: str) -> None:
        if instance.scheduling.get("instanceTerminationAction") == "DELETE":
            self._remove(instance)
        else:
            instance.status = "TERMINATED"
        self._tell(instance, why)

    def _after_crash(self, instance: Instance, why: str) -> None:
        instance.status = "TERMINATED"
        self._tell(instance, why)

    def _after_limit(self, instance: Instance, why: str) -> None:
        self._remove(instance)
        self._tell(instance, why)

    def _remove(self, instance: Instance) -> None:
        if instance.gone is not None:
            return
        instance.status, instance.gone = "TERMINATED", self._clock.now()
        instance.listed_until = instance.gone + self.lag()
        self.living.pop(instance.key, None)
        for disk in instance.disks:
            disk.user = None
            if disk.auto_delete:
                self.disks.pop(f"zones/{disk.zone}/disks/{disk.name}", None)

    def _tell(self, instance: Instance, why: str) -> None:
        for listener in self.ended:
            listener(instance, why)

    def _scheduler_notify(self, instance: Instance) -> None:
        """Wakes the requests that wait for a change in this machine's metadata."""
        instance.generation += 1
        with self._clock.changed:
            self._clock.changed.notify_all()


def metadata_items(properties: Fields) -> list[dict[str, str]]:
    """The metadata of a template."""
    return [
        {key: str(value) for key, value in item.items()}
        for item in members(member(properties, "metadata"), "items")
    ]


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def check_name(name: str) -> bool:
    """Whether Google takes it as the name of a resource."""
    return _NAME.fullmatch(name) is not None
