"""Instances: how a machine comes, runs, is taken away and goes, with its disks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from drillyard_emulators.gcp.compute.catalogue import (
    Catalogue,
    machine_type,
    needed_quotas,
    region_of,
)
from drillyard_emulators.gcp.compute.model import Disk, Instance, Physics
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.faults import Faults
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.scheduler import Scheduler

Ended = Callable[[Instance, str], None]
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class NoCapacity(Exception):
    """A machine cannot be made now.

    Args:
        code: Google's word.
        message: For people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}


class Instances:
    """All machines that exist or ever did.

    Args:
        clock: Emulated time.
        scheduler: For what happens later.
        catalogue: What there is to rent.
        physics: How the world behaves.
        faults: Their random numbers are used here too.
        folder: For the machines' disks and serial ports.
        env_of: Environment of a machine's processes.
    """

    def __init__(
        self,
        clock: EmulatedClock,
        scheduler: Scheduler,
        catalogue: Catalogue,
        physics: Physics,
        faults: Faults,
        folder: Path,
        env_of: Callable[[Instance, Path], Mapping[str, str]],
    ) -> None:
        self._clock, self._scheduler, self._catalogue = clock, scheduler, catalogue
        self.physics, self._faults, self._folder, self._env_of = physics, faults, folder, env_of
        self.living: dict[str, Instance] = {}
        self.by_id: dict[int, Instance] = {}
        self.disks: dict[str, Disk] = {}
        self.booted: list[Callable[[Instance], None]] = []
        """Told of each instance that is up."""
        self.ended: list[Ended] = []
        """Told of each instance that stopped by itself, with the reason."""
        self._next = 4_000_000_000_000_000_000

    def next_id(self) -> int:
        """A number that no resource had before."""
        self._next += 1
        return self._next

    def lag(self) -> float:
        """The random lag of one resource in lists."""
        most = self.physics.listing_lag_s
        return self._faults.random.uniform(min(self.physics.listing_lag_least_s, most), most)

    def check_room(self, zone: str, properties: Mapping[str, Any]) -> None:
        """See whether a machine can be made.

        Raises:
            NoCapacity: Stock-out, quota, or a type that the zone does not have.
        """
        kind = str(properties["machineType"]).rpartition("/")[2]
        scheduling = properties.get("scheduling") or {}
        spot = scheduling.get("provisioningModel") == "SPOT"
        found = machine_type(kind)
        if found is None or not self._catalogue.has(zone, kind):
            text = f"Machine type with name '{kind}' does not exist in zone '{zone}'."
            raise NoCapacity("INVALID_FIELD_VALUE", text)
        ends = scheduling.get("terminationTime")
        if ends is not None and _epoch(ends) <= self._clock.now():
            # No page says so; the other answer is a machine that ends at once.
            text = f"Invalid value for field 'scheduling.terminationTime': {ends} is in the past."
            raise NoCapacity("INVALID_FIELD_VALUE", text)
        accelerators = {
            str(a["acceleratorType"]).rpartition("/")[2]: int(a.get("acceleratorCount", 1))
            for a in properties.get("guestAccelerators") or []
        }
        for name in accelerators:
            if not self._catalogue.has(zone, name):
                text = f"The resource 'zones/{zone}/acceleratorTypes/{name}' was not found"
                raise NoCapacity("RESOURCE_NOT_FOUND", text)
        for stock_out in self.physics.stockouts:
            if stock_out.hits(zone, kind, spot):
                stock_out.played += 1
                text = f"The zone '{zone}' does not have enough resources available to fulfil"
                code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
                raise NoCapacity(code, f"{text} the request for a {kind} VM instance.")
        region = region_of(zone)
        limits, used = self._catalogue.limits(region), self.usage(region)
        for metric, amount in self._needs(properties).items():
            limit = limits.get(metric, float("inf"))
            if used.get(metric, 0.0) + amount > limit:
                text = f"Quota '{metric}' exceeded. Limit: {limit} in region {region}."
                raise NoCapacity("QUOTA_EXCEEDED", text)

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
        properties: dict[str, Any],
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
            properties,
            {**base, **metadata},
            dict(properties.get("labels") or {}),
            now,
            group,
            listed_from=now + self.lag(),
        )
        for number, wanted in enumerate(properties.get("disks") or [{}]):
            instance.disks.append(self._disk(instance, number, wanted))
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
        """The host fails: no notice, no word."""
        if instance.status in ("RUNNING", "PROVISIONING"):
            self._stop(instance, 0.0, "crashed", self._after_crash)

    def delete(self, instance: Instance, why: str = "deleted", done: Ended | None = None) -> None:
        """Delete a machine and its auto-deleted disks; its processes are asked first."""

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

    def _needs(self, properties: Mapping[str, Any]) -> dict[str, float]:
        kind = machine_type(str(properties["machineType"]).rpartition("/")[2])
        assert kind is not None, "was checked before the machine was made"
        scheduling = properties.get("scheduling") or {}
        interfaces = properties.get("networkInterfaces") or []
        return needed_quotas(
            kind,
            scheduling.get("provisioningModel") == "SPOT",
            {
                str(a["acceleratorType"]).rpartition("/")[2]: int(a.get("acceleratorCount", 1))
                for a in properties.get("guestAccelerators") or []
            },
            sum(
                int((d.get("initializeParams") or {}).get("diskSizeGb") or 10)
                for d in properties.get("disks") or []
            ),
            any(interface.get("accessConfigs") for interface in interfaces),
        )

    def _disk(self, instance: Instance, number: int, wanted: Mapping[str, Any]) -> Disk:
        asked = wanted.get("initializeParams") or {}
        name = instance.name if number == 0 else f"{instance.name}-{number}"
        disk = Disk(
            self.next_id(),
            name,
            instance.zone,
            int(asked.get("diskSizeGb") or 10),
            str(asked.get("diskType") or "pd-standard").rpartition("/")[2],
            dict(asked.get("labels") or {}),
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
        limit = (instance.scheduling.get("maxRunDuration") or {}).get("seconds")
        ends = instance.scheduling.get("terminationTime")
        if ends is not None:
            limit = max(0.0, _epoch(ends) - self._clock.now())
        if limit is not None:
            self._scheduler.after(float(limit), lambda: self._expire(instance))
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
        instance.machine = Machine(
            instance.name,
            str(instance.instance_id),
            folder,
            serial,
            self._env_of(instance, folder),
            instance.metadata.get("startup-script", ""),
            instance.metadata.get("shutdown-script", ""),
        )

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
        """Wake those who wait for a change in this machine's metadata."""
        instance.generation += 1
        with self._clock.changed:
            self._clock.changed.notify_all()


def metadata_items(properties: Mapping[str, Any]) -> list[dict[str, str]]:
    """The metadata of a template."""
    found: list[dict[str, str]] = (properties.get("metadata") or {}).get("items") or []
    return found


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def check_name(name: str) -> bool:
    """Whether Google takes it as the name of a resource."""
    return _NAME.fullmatch(name) is not None
