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
from drillyard_emulators.gcp.compute.lists import aggregated, listing
from drillyard_emulators.gcp.compute.routing import Call, Routes
from drillyard_emulators.gcp.compute.world import API, World
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal

_PROJECT_QUOTAS = {
    "GPUS_ALL_REGIONS": 16.0,
    "CPUS_ALL_REGIONS": 9600.0,
    "INSTANCE_TEMPLATES": 300.0,
}
_PUBLIC_IMAGES = ("debian-cloud", "ubuntu-os-cloud", "cos-cloud", "deeplearning-platform-release")


class Reading:
    """Adds its methods to the routes."""

    def __init__(self, world: World, routes: Routes) -> None:
        self._world = world
        add = routes.add
        add("GET", "", "projects.get", self._project)
        add("GET", "zones", "zones.list", self._zones)
        add("GET", "zones/{name}", "zones.get", self._zone)
        add("GET", "regions", "regions.list", self._regions)
        add("GET", "regions/{name}", "regions.get", self._region)
        add("GET", "{zone}/machineTypes", "machineTypes.list", self._types)
        add("GET", "{zone}/machineTypes/{name}", "machineTypes.get", self._type)
        add("GET", "aggregated/machineTypes", "machineTypes.aggregatedList", self._all_types)
        add("GET", "{zone}/acceleratorTypes", "acceleratorTypes.list", self._accelerators)
        add("GET", "{zone}/acceleratorTypes/{name}", "acceleratorTypes.get", self._accelerator)
        add(
            "GET",
            "aggregated/acceleratorTypes",
            "acceleratorTypes.aggregatedList",
            self._all_accelerators,
        )
        add("GET", "global/images/{name}", "images.get", self._image)
        add("GET", "global/images/family/{name}", "images.getFromFamily", self._family)
        add("GET", "global/networks/{name}", "networks.get", self._network)
        add("GET", "{where}/subnetworks/{name}", "subnetworks.get", self._subnetwork)
        add("GET", "{zone}/disks", "disks.list", self._disks)
        add("GET", "aggregated/disks", "disks.aggregatedList", self._all_disks)
        add("GET", "{place}/operations", "operations.list", self._operations)
        add("GET", "{place}/operations/{name}", "operations.get", self._operation)
        add("POST", "{place}/operations/{name}/wait", "operations.wait", self._wait)

    def _missing(self, what: str) -> Refusal:
        text = f"The resource 'projects/{self._world.project.project_id}/{what}' was not found"
        return Refusal(404, "notFound", text)

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

    def _zones(self, call: Call) -> Document:
        found = (zone_document(self._world.api, zone) for zone in self._world.catalogue.zones)
        return listing(call, "compute#zoneList", found)

    def _zone(self, call: Call) -> Document:
        if call.name not in self._world.catalogue.zones:
            raise self._missing(f"zones/{call.name}")
        return zone_document(self._world.api, call.name)

    def _region_of(self, name: str) -> Document:
        world = self._world
        return region_document(world.api, name, world.catalogue, world.instances.usage(name))

    def _regions(self, call: Call) -> Document:
        return listing(call, "compute#regionList", (self._region_of(name) for name in REGIONS))

    def _region(self, call: Call) -> Document:
        if call.name not in REGIONS:
            raise self._missing(f"regions/{call.name}")
        return self._region_of(call.name)

    def _types_of(self, zone: str) -> Iterator[Document]:
        for name in machine_types():
            found = machine_type(name)
            if found is not None and self._world.catalogue.has(zone, name):
                yield machine_type_document(self._world.api, zone, found)

    def _types(self, call: Call) -> Document:
        self._known_zone(call)
        return listing(call, "compute#machineTypeList", self._types_of(call.zone))

    def _type(self, call: Call) -> Document:
        self._known_zone(call)
        found = machine_type(call.name)
        if found is None or not self._world.catalogue.has(call.zone, call.name):
            raise self._missing(f"{call.where}/machineTypes/{call.name}")
        return machine_type_document(self._world.api, call.zone, found)

    def _all_types(self, call: Call) -> Document:
        zones = self._world.catalogue.zones
        found = ((f"zones/{zone}", one) for zone in zones for one in self._types_of(zone))
        kind = "compute#machineTypeAggregatedList"
        return aggregated(call, kind, "machineTypes", found, [f"zones/{zone}" for zone in zones])

    def _accelerators_of(self, zone: str) -> Iterator[Document]:
        for name in ACCELERATORS:
            if self._world.catalogue.has(zone, name):
                yield accelerator_document(self._world.api, zone, name)

    def _accelerators(self, call: Call) -> Document:
        self._known_zone(call)
        return listing(call, "compute#acceleratorTypeList", self._accelerators_of(call.zone))

    def _accelerator(self, call: Call) -> Document:
        self._known_zone(call)
        if call.name not in ACCELERATORS or not self._world.catalogue.has(call.zone, call.name):
            raise self._missing(f"{call.where}/acceleratorTypes/{call.name}")
        return accelerator_document(self._world.api, call.zone, call.name)

    def _all_accelerators(self, call: Call) -> Document:
        zones = self._world.catalogue.zones
        found = ((f"zones/{zone}", one) for zone in zones for one in self._accelerators_of(zone))
        empty = [f"zones/{zone}" for zone in zones]
        kind = "compute#acceleratorTypeAggregatedList"
        return aggregated(call, kind, "acceleratorTypes", found, empty)

    def _known_zone(self, call: Call) -> None:
        if call.zone not in self._world.catalogue.zones:
            raise self._missing(call.where)

    def _image_document(self, call: Call, name: str, family: str | None = None) -> Document:
        project = call.request.path.split("/projects/")[1].split("/")[0]
        link = f"{API}/projects/{project}/global/images/{name}"
        document = {"kind": "compute#image", "id": "5", "name": name, "status": "READY"}
        return {**document, "selfLink": link, **({"family": family} if family else {})}

    def _image(self, call: Call) -> Document:
        if not _any(self._world.catalogue.images, call.name) and not _public(call):
            raise self._missing(f"global/images/{call.name}")
        return self._image_document(call, call.name)

    def _family(self, call: Call) -> Document:
        if not _any(self._world.catalogue.images, call.name) and not _public(call):
            raise self._missing(f"global/images/family/{call.name}")
        return self._image_document(call, f"{call.name}-v20261101", call.name)

    def _network(self, call: Call) -> Document:
        if not _any(self._world.catalogue.networks, call.name):
            raise self._missing(f"global/networks/{call.name}")
        link = f"{self._world.api}/global/networks/{call.name}"
        document = {"kind": "compute#network", "id": "6", "name": call.name, "selfLink": link}
        return {**document, "autoCreateSubnetworks": True}

    def _subnetwork(self, call: Call) -> Document:
        if not _any(self._world.catalogue.networks, call.name):
            raise self._missing(f"{call.where}/subnetworks/{call.name}")
        link = f"{self._world.api}/{call.where}/subnetworks/{call.name}"
        document = {"kind": "compute#subnetwork", "id": "7", "name": call.name, "selfLink": link}
        return {**document, "privateIpGoogleAccess": True}

    def _disks(self, call: Call) -> Document:
        self._known_zone(call)
        disks = (disk for disk in self._world.instances.disks.values() if disk.zone == call.zone)
        found = (disk_document(self._world.api, disk) for disk in disks)
        return listing(call, "compute#diskList", found)

    def _all_disks(self, call: Call) -> Document:
        disks = self._world.instances.disks.values()
        found = ((f"zones/{disk.zone}", disk_document(self._world.api, disk)) for disk in disks)
        return aggregated(call, "compute#diskAggregatedList", "disks", found, [])

    def _operations(self, call: Call) -> Document:
        operations = self._world.operations
        found = (operations.document(one) for one in operations.list(call.where))
        return listing(call, "compute#operationList", found)

    def _operation(self, call: Call) -> Document:
        operations = self._world.operations
        return operations.document(operations.get(call.where, call.name))

    def _wait(self, call: Call) -> Document:
        operations = self._world.operations
        found = operations.get(call.where, call.name)
        operations.wait(found)
        return operations.document(found)


def _any(names: set[str], name: str) -> bool:
    return "*" in names or name in names


def _public(call: Call) -> bool:
    return any(f"/projects/{name}/" in call.request.path for name in _PUBLIC_IMAGES)
