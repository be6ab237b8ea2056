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
        base, one = "{zone}/instances", "{zone}/instances/{name}"
        add("POST", base, "instances.insert", self._insert)
        self.add_lists(routes, "instance", base, self._instances, self._instance, everywhere=True)
        add("DELETE", one, "instances.delete", self._delete_instance)
        add("GET", f"{one}/serialPort", "instances.getSerialPortOutput", self._serial)
        add("POST", f"{one}/setLabels", "instances.setLabels", self._labels)
        event = "simulateMaintenanceEvent"
        add("POST", f"{one}/{event}", f"instances.{event}", self._maintenance)
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
        found = self._world.instances.living.get(key)
        if found is None:
            raise self.missing(key)
        return found

    def _instances(self, where: str) -> Iterator[Document]:
        for instance in self._world.listed_instances():
            if f"zones/{instance.zone}" == where:
                yield instance_document(self._world.api, instance)

    def _instance(self, call: Call) -> Document:
        return instance_document(self._world.api, self._found(call))

    def _delete_instance(self, call: Call) -> Document:
        world, found = self._world, self._found(call)

        def effect() -> None:
            # A member that is deleted behind its group's back is missed by the group.
            told = world.groups.on_end
            world.instances.delete(found, done=told)

        return self.do(call, "delete", found.key, effect, lambda: found.gone is not None)

    def _serial(self, call: Call) -> Document:
        found = self._found(call)
        start = int(call.request.query.get("start") or 0)
        data = b""
        if found.machine is not None and found.machine.serial.exists():
            data = found.machine.serial.read_bytes()
        return {
            "kind": "compute#serialPortOutput",
            "contents": data[start:].decode(errors="replace"),
            "start": str(start),
            "next": str(len(data)),
            "selfLink": f"{self._world.api}/{found.key}/serialPort",
        }

    def _labels(self, call: Call) -> Document:
        found, body = self._found(call), call.body
        current = instance_document(self._world.api, found)["labelFingerprint"]
        if body.get("labelFingerprint") not in (None, current):
            text = "Labels fingerprint either invalid or resource labels have changed"
            raise Refusal(412, "conditionNotMet", text)

        def effect() -> None:
            found.labels = text_fields(body, "labels")
            found.generation += 1

        return self.do(call, "setLabels", found.key, effect)

    def _maintenance(self, call: Call) -> Document:
        found = self._found(call)
        if found.status != "RUNNING":
            text = f"The resource '{found.key}' is not ready"
            raise Refusal(400, "resourceNotReady", text)
        world = self._world
        kind = "compute.instances.simulateMaintenanceEvent"

        def effect() -> None:
            if found.spot:
                world.instances.preempt(found)

        return self.do(call, kind, found.key, effect)

    def _delete_disk(self, call: Call) -> Document:
        key = f"{call.where}/disks/{call.name}"
        found = self._world.instances.disks.get(key)
        if found is None:
            raise self.missing(key)
        if found.user is not None:
            text = f"The disk resource '{key}' is already being used by '{found.user}'"
            raise Refusal(400, "resourceInUseByAnotherResource", text)
        return self.do(call, "delete", key, lambda: self._world.instances.disks.pop(key))
