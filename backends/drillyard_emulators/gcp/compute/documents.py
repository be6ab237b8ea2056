"""Resources as the Compute API shows them."""

from __future__ import annotations

from drillyard_emulators.gcp.compute.catalogue import (
    ACCELERATORS,
    UNLISTED,
    Catalogue,
    MachineType,
    region_of,
)
from drillyard_emulators.gcp.compute.model import Disk, Group, Instance, Template
from drillyard_emulators.http.clock import compute_stamp
from drillyard_emulators.http.fields import Document, member, members


def _head(kind: str, number: int, name: str) -> Document:
    return {"kind": f"compute#{kind}", "id": str(number), "name": name}


def _listed(kind: str, first: int, name: str) -> Document:
    """Returns what begins an entry of Google's own catalogues."""
    return {**_head(kind, first + sum(name.encode()), name), "description": name}


def instance_document(api: str, instance: Instance) -> Document:
    """The instance resource."""
    zone = f"{api}/zones/{instance.zone}"
    properties = instance.properties
    document: Document = {
        **_head("instance", instance.instance_id, instance.name),
        "creationTimestamp": compute_stamp(instance.created),
        "zone": zone,
        "machineType": f"{zone}/machineTypes/{instance.machine_type}",
        "status": instance.status,
        "labels": instance.labels,
        "labelFingerprint": fingerprint(instance.generation),
        "fingerprint": fingerprint(instance.generation),
        "metadata": {
            "kind": "compute#metadata",
            "fingerprint": fingerprint(0),
            "items": [{"key": k, "value": v} for k, v in sorted(instance.metadata.items())],
        },
        "scheduling": properties.get("scheduling") or {},
        "tags": {"fingerprint": fingerprint(0), **member(properties, "tags")},
        "serviceAccounts": properties.get("serviceAccounts") or [],
        "networkInterfaces": [
            {
                "kind": "compute#networkInterface",
                "name": f"nic{n}",
                "networkIP": "10.0.0.2",
                **card,
            }
            for n, card in enumerate(members(properties, "networkInterfaces"))
        ],
        "disks": [
            {
                "kind": "compute#attachedDisk",
                "type": "PERSISTENT",
                "mode": "READ_WRITE",
                "boot": number == 0,
                "index": number,
                "autoDelete": disk.auto_delete,
                "deviceName": disk.name,
                "diskSizeGb": str(disk.size_gb),
                "source": f"{zone}/disks/{disk.name}",
            }
            for number, disk in enumerate(instance.disks)
        ],
        "selfLink": f"{api}/{instance.key}",
    }
    if instance.started is not None:
        document["lastStartTimestamp"] = compute_stamp(instance.started)
    return document


def group_document(api: str, group: Group) -> Document:
    """The managed-group resource."""
    kind = group.where.partition("/")[0]
    actions = [managed.action for managed in group.managed.values()]
    names = ("creating", "deleting", "recreating", "none")
    counts = {name: sum(action.lower() == name for action in actions) for name in names}
    others = ("abandoning", "creatingWithoutRetries", "refreshing", "restarting", "verifying")
    asked, template = group.document, f"{api}/{group.template}"
    kept: Document = {
        key: asked[key]
        for key in ("description", "distributionPolicy", "instanceLifecyclePolicy", "updatePolicy")
        if key in asked
    }
    return {
        **_head("instanceGroupManager", group.group_id, group.name),
        "creationTimestamp": compute_stamp(group.created),
        kind[:-1]: f"{api}/{group.where}",
        "instanceTemplate": template,
        "versions": [
            {
                "instanceTemplate": template,
                "targetSize": {"calculated": group.target},
            }
        ],
        "instanceGroup": f"{api}/{group.where}/instanceGroups/{group.name}",
        "baseInstanceName": asked.get("baseInstanceName") or group.name,
        "fingerprint": fingerprint(group.counter),
        "targetSize": group.target,
        "currentActions": {**counts, **dict.fromkeys(others, 0)},
        "status": {"isStable": counts["none"] == len(actions)},
        "selfLink": f"{api}/{group.key}",
        **kept,
    }


def template_document(api: str, template: Template) -> Document:
    """The template resource."""
    document = {
        "kind": "compute#instanceTemplate",
        "id": str(template.template_id),
        "creationTimestamp": compute_stamp(template.created),
        "selfLink": f"{api}/{template.key}",
        **template.document,
    }
    if template.where != "global":
        document["region"] = f"{api}/{template.where}"
    return document


def disk_document(api: str, disk: Disk) -> Document:
    """The disk resource."""
    zone = f"{api}/zones/{disk.zone}"
    document: Document = {
        **_head("disk", disk.disk_id, disk.name),
        "creationTimestamp": compute_stamp(disk.created),
        "sizeGb": str(disk.size_gb),
        "zone": zone,
        "type": f"{zone}/diskTypes/{disk.kind}",
        "status": "READY",
        "labels": disk.labels,
        "selfLink": f"{zone}/disks/{disk.name}",
    }
    if disk.user is not None:
        document["users"] = [f"{zone}/instances/{disk.user}"]
    return document


def zone_document(api: str, zone: str) -> Document:
    """The zone resource."""
    return {
        **_listed("zone", 2000, zone),
        "status": "UP",
        "region": f"{api}/regions/{region_of(zone)}",
        "selfLink": f"{api}/zones/{zone}",
    }


def region_document(
    api: str, region: str, catalogue: Catalogue, usage: dict[str, float]
) -> Document:
    """The region resource, with its quotas."""
    return {
        **_listed("region", 1000, region),
        "status": "UP",
        "zones": [f"{api}/zones/{z}" for z in catalogue.zones if region_of(z) == region],
        "quotas": [
            {"metric": metric, "limit": limit, "usage": usage.get(metric, 0.0)}
            for metric, limit in sorted(catalogue.limits(region).items())
            if not UNLISTED.fullmatch(metric)
        ],
        "selfLink": f"{api}/regions/{region}",
    }


def machine_type_document(api: str, zone: str, kind: MachineType) -> Document:
    """The machine-type resource."""
    document: Document = {
        **_listed("machineType", 3000, kind.name),
        "description": f"{kind.cpus} vCPUs, {kind.memory_mib / 1024:g} GB RAM",
        "guestCpus": kind.cpus,
        "memoryMb": kind.memory_mib,
        "isSharedCpu": kind.name in ("e2-micro", "e2-small", "e2-medium"),
        "zone": zone,
        "selfLink": f"{api}/zones/{zone}/machineTypes/{kind.name}",
    }
    if kind.accelerator:
        carried = {"guestAcceleratorType": kind.accelerator}
        document["accelerators"] = [{**carried, "guestAcceleratorCount": kind.accelerators}]
    return document


def accelerator_document(api: str, zone: str, name: str) -> Document:
    """The accelerator-type resource."""
    return {
        **_listed("acceleratorType", 4000, name),
        "maximumCardsPerInstance": ACCELERATORS[name],
        "zone": f"{api}/zones/{zone}",
        "selfLink": f"{api}/zones/{zone}/acceleratorTypes/{name}",
    }


def fingerprint(number: int) -> str:
    """Base64 of a number: changes when it does."""
    import base64

    return base64.b64encode(number.to_bytes(8, "big")).decode()
