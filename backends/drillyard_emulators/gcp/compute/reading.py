"""The read-only methods: what there is to rent, quotas, images, operations."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard_emulators.gcp.compute.catalogue import (
    ACCELERATORS,
    REGIONS,
    machine_type,
    machine_types,
)
from drillyard_emulators.gcp.compute.documents import (
    accelerator_document,
    disk_document,
    machine_type_document,
    region_document,
    zone_document,
)
from drillyard_emulators.gcp.compute.effects import Documents, Effects
from drillyard_emulators.gcp.compute.lists import listing
from drillyard_emulators.gcp.compute.routing import Call, Routes
from drillyard_emulators.gcp.compute.world import API, World
from drillyard_emulators.http.fields import Document

_PROJECT_QUOTAS = {
    "GPUS_ALL_REGIONS": 16.0,
    "CPUS_ALL_REGIONS": 9600.0,
    "INSTANCE_TEMPLATES": 300.0,
}
_PUBLIC_IMAGES = ("debian-cloud", "ubuntu-os-cloud", "cos-cloud")


class Reading(Effects):
    """Adds its methods to the routes."""

    def __init__(self, world: World, routes: Routes) -> None:
        super().__init__(world)
        routes.add("GET", "", "projects.get", self._project)
        self.add_lists(routes, "zone", "zones", lambda _: self._zones())
        self.add_lists(routes, "region", "regions", lambda _: map(self._region, REGIONS))
        zonal: dict[str, Documents] = {
            "machineType": self._machine_types,
            "acceleratorType": self._accelerators,
            "disk": self._disks,
        }
        for kind, documents in zonal.items():
            self.add_lists(routes, kind, f"{{zone}}/{kind}s", documents, everywhere=True)
        add = routes.add
        add("GET", "global/images/{name}", "images.get", self._image)
        add("GET", "global/images/family/{name}", "images.getFromFamily", self._image)
        add("GET", "global/networks/{name}", "networks.get", self._network)
        add("GET", "{where}/subnetworks/{name}", "subnetworks.get", self._network)
        add("GET", "{place}/operations", "operations.list", self._operations)
        add("GET", "{place}/operations/{name}", "operations.get", self._operation)
        add("POST", "{place}/operations/{name}/wait", "operations.wait", self._operation)

    def _project(self, call: Call) -> Document:
        project = self._world.project
        used = {"INSTANCE_TEMPLATES": float(len(self._world.templates))}
        return {
            "kind": "compute#project",
            "id": project.number,
            "name": project.project_id,
            "quotas": [
                {"metric": metric, "limit": limit, "usage": used.get(metric, 0.0)}
                for metric, limit in _PROJECT_QUOTAS.items()
            ],
            "defaultServiceAccount": f"{project.number}-compute@developer.gserviceaccount.com",
            "selfLink": self._world.api,
        }

    def _zones(self) -> Iterator[Document]:
        return (zone_document(self._world.api, zone) for zone in self._world.catalogue.zones)

    def _region(self, name: str) -> Document:
        world = self._world
        return region_document(world.api, name, world.catalogue, world.instances.usage(name))

    def _machine_types(self, where: str) -> Iterator[Document]:
        zone = where.partition("/")[2]
        for name in machine_types():
            kind = machine_type(name)
            if kind is not None and self._world.catalogue.has(zone, name):
                yield machine_type_document(self._world.api, zone, kind)

    def _accelerators(self, where: str) -> Iterator[Document]:
        zone = where.partition("/")[2]
        for name in ACCELERATORS:
            if self._world.catalogue.has(zone, name):
                yield accelerator_document(self._world.api, zone, name)

    def _disks(self, where: str) -> Iterator[Document]:
        for disk in self._world.instances.disks.values():
            if f"zones/{disk.zone}" == where:
                yield disk_document(self._world.api, disk)

    def _image(self, call: Call) -> Document:
        project = call.request.path.split("/projects/")[1].split("/")[0]
        named = _any(self._world.catalogue.images, call.name)
        if not named and project not in _PUBLIC_IMAGES:
            raise self.missing(call.request.path.partition(f"/{project}/")[2])
        of_family = call.method == "images.getFromFamily"
        name = f"{call.name}-v20261101" if of_family else call.name
        link = f"{API}/projects/{project}/global/images/{name}"
        document = {"kind": "compute#image", "id": "5", "name": name, "status": "READY"}
        family = {"family": call.name} if of_family else {}
        labels = self._world.catalogue.image_labels
        return {**document, "selfLink": link, **family, **({"labels": labels} if labels else {})}

    def _network(self, call: Call) -> Document:
        kind = call.method.partition("s.")[0]
        path = f"{call.where}/{kind}s/{call.name}"
        if not _any(self._world.catalogue.networks, call.name):
            raise self.missing(path)
        more = "autoCreateSubnetworks" if kind == "network" else "privateIpGoogleAccess"
        link = f"{self._world.api}/{path}"
        document = {"kind": f"compute#{kind}", "id": "6", "name": call.name, "selfLink": link}
        return {**document, more: True}

    def _operations(self, call: Call) -> Document:
        operations = self._world.operations
        documents = map(operations.document, operations.list(call.where))
        return listing(call, "compute#operationList", documents)

    def _operation(self, call: Call) -> Document:
        operations = self._world.operations
        operation = operations.get(call.where, call.name)
        if call.method == "operations.wait":
            operations.wait(operation)
        return operations.document(operation)


def _any(names: set[str], name: str) -> bool:
    return "*" in names or name in names
