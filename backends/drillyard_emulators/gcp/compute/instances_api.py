"""Instances and their disks."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard_emulators.gcp.compute.documents import instance_document
from drillyard_emulators.gcp.compute.effects import Effects, check_properties, local, named
from drillyard_emulators.gcp.compute.model import Instance
from drillyard_emulators.gcp.compute.routing import Call, Routes
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document, member, text_fields
from drillyard_emulators.http.wire import Refusal


class InstancesApi(Effects):
    """Adds its methods to the routes."""

    def __init__(self, world: World, routes: Routes) -> None:
        super().__init__(world)
        add = routes.add
        base, each = "{zone}/instances", "{zone}/instances/{name}"
        add("POST", base, "instances.insert", self._insert)
        self.add_lists(routes, "instance", base, self._instances, self._instance, everywhere=True)
        add("DELETE", each, "instances.delete", self._delete_instance)
        add("GET", f"{each}/serialPort", "instances.getSerialPortOutput", self._serial)
        add("POST", f"{each}/setLabels", "instances.setLabels", self._labels)
        event = "simulateMaintenanceEvent"
        add("POST", f"{each}/{event}", f"instances.{event}", self._maintenance)
        add("DELETE", "{zone}/disks/{name}", "disks.delete", self._delete_disk)

    def _insert(self, call: Call) -> Document:
        world, body = self._world, call.body
        name = named(body)
        key = f"{call.where}/instances/{name}"
        if key in world.instances.living and (refusal := self.taken(call, key)):
            raise refusal
        properties = {k: v for k, v in body.items() if k != "name"}
        source = call.request.query.get("sourceInstanceTemplate")
        if source:
            template = world.templates.get(local(source))
            if template is None:
                raise self.missing(local(source))
            properties = {**member(template.document, "properties"), **properties}
        if not properties.get("machineType"):
            raise Refusal(400, "invalid", "Invalid value for field 'resource.machineType': ''.")
        check_properties(properties)
        return self.do(
            call, "insert", key, lambda: world.instances.create(call.zone, name, properties, {})
        )

    def _found(self, call: Call) -> Instance:
        key = f"{call.where}/instances/{call.name}"
        instance = self._world.instances.living.get(key)
        if instance is None:
            raise self.missing(key)
        return instance

    def _instances(self, where: str) -> Iterator[Document]:
        for instance in self._world.listed_instances():
            if f"zones/{instance.zone}" == where:
                yield instance_document(self._world.api, instance)

    def _instance(self, call: Call) -> Document:
        return instance_document(self._world.api, self._found(call))

    def _delete_instance(self, call: Call) -> Document:
        world, instance = self._world, self._found(call)

        def effect() -> None:
            # A member that is deleted behind its group's back is missed by the group.
            on_end = world.groups.on_end
            world.instances.delete(instance, done=on_end)

        return self.do(call, "delete", instance.key, effect, lambda: instance.gone is not None)

    def _serial(self, call: Call) -> Document:
        instance = self._found(call)
        start = int(call.request.query.get("start") or 0)
        data = b""
        if instance.machine is not None and instance.machine.serial.exists():
            data = instance.machine.serial.read_bytes()
        return {
            "kind": "compute#serialPortOutput",
            "contents": data[start:].decode(errors="replace"),
            "start": str(start),
            "next": str(len(data)),
            "selfLink": f"{self._world.api}/{instance.key}/serialPort",
        }

    def _labels(self, call: Call) -> Document:
        instance, body = self._found(call), call.body
        current = instance_document(self._world.api, instance)["labelFingerprint"]
        if body.get("labelFingerprint") not in (None, current):
            text = "Labels fingerprint either invalid or resource labels have changed"
            raise Refusal(412, "conditionNotMet", text)

        def effect() -> None:
            instance.labels = text_fields(body, "labels")
            instance.generation += 1

        return self.do(call, "setLabels", instance.key, effect)

    def _maintenance(self, call: Call) -> Document:
        instance = self._found(call)
        if instance.status != "RUNNING":
            text = f"The resource '{instance.key}' is not ready"
            raise Refusal(400, "resourceNotReady", text)
        world = self._world
        kind = "compute.instances.simulateMaintenanceEvent"

        def effect() -> None:
            if instance.spot:
                world.instances.preempt(instance)

        return self.do(call, kind, instance.key, effect)

    def _delete_disk(self, call: Call) -> Document:
        key = f"{call.where}/disks/{call.name}"
        disk = self._world.instances.disks.get(key)
        if disk is None:
            raise self.missing(key)
        if disk.user is not None:
            text = f"The disk resource '{key}' is already being used by '{disk.user}'"
            raise Refusal(400, "resourceInUseByAnotherResource", text)
        return self.do(call, "delete", key, lambda: self._world.instances.disks.pop(key))
