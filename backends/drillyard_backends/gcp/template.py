"""Builds the template of an order's machines from its settings; makes no call."""

from __future__ import annotations

import importlib.resources
import json
from datetime import UTC, datetime
from typing import TypedDict

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard_backends.gcp import naming, prices
from drillyard_backends.gcp.settings import DEFAULT_IMAGE_FAMILY, GcpConfig
from drillyard_backends.gcp.zones import Candidate

MIN_LIFE_S = 30
MAX_LIFE_S = 120 * 86_400
"""Google's limits of ``maxRunDuration``."""
DEFAULT_LIFE_S = 24 * 3600
"""Lifetime in seconds of a machine whose order has no deadline: no machine runs for ever."""
CONTAINER_IMAGE = "projects/cos-cloud/global/images/family/cos-stable"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Item(TypedDict):
    """An entry of metadata."""

    key: str
    value: str


class Metadata(TypedDict, total=False):
    """Metadata of machines."""

    items: list[Item]


class Properties(TypedDict, total=False):
    """Properties of machines, as Google's library takes them."""

    machine_type: str
    disks: list[JsonObject]
    network_interfaces: list[JsonObject]
    tags: JsonObject
    guest_accelerators: list[JsonObject]
    labels: dict[str, str]
    service_accounts: list[JsonObject]
    scheduling: JsonObject
    metadata: Metadata


class Template(TypedDict):
    """The fields of ``compute_v1.InstanceTemplate``."""

    name: str
    description: str
    properties: Properties


def instance_template(
    order: Order,
    config: GcpConfig,
    candidate: Candidate,
    name: str,
    now: float,
    base: Properties | None = None,
    wheel: str = "",
) -> Template:
    """Returns the template of a lease's machines.

    Args:
        order: The order of the lease.
        config: Settings.
        candidate: Machine type, and whether it is Spot.
        name: Name of the template.
        now: Epoch seconds, for the time until the deadline.
        base: Properties of the user's own template; drillyard's properties are merged over them.
        wheel: Key of drillyard's wheel in the order's store; empty to use the image's drillyard.
    """
    properties = base.copy() if base is not None else Properties()
    if "disks" in properties:
        # Google keeps disks by default: each machine would leave one behind, which costs money.
        properties["disks"] = [{**each, "auto_delete": True} for each in properties["disks"]]
    if base is None:
        properties["disks"] = [disk(order, config)]
        properties["network_interfaces"] = [interface(config)]
        properties["tags"] = {"items": list(config.tags)}
        accelerators = gpus(order, config, candidate.machine_type)
        if accelerators:
            properties["guest_accelerators"] = accelerators
    has_gpus = bool(properties.get("guest_accelerators"))
    base_metadata = properties.get("metadata")
    base_items = base_metadata.get("items", []) if base_metadata else []
    properties["machine_type"] = candidate.machine_type
    properties["labels"] = {
        **properties.get("labels", {}),
        **naming.labels(order, config.labels),
    }
    properties["service_accounts"] = [{"email": config.service_account, "scopes": [_SCOPE]}]
    properties["scheduling"] = scheduling(order, candidate, has_gpus, now)
    properties["metadata"] = {"items": _metadata(order, config, base_items, wheel)}
    return {
        "name": name,
        "description": f"drillyard lease {order.lease_id}",
        "properties": properties,
    }


def life_s(order: Order, now: float) -> int:
    """Returns how long a machine that starts now may live, in seconds."""
    left = DEFAULT_LIFE_S if order.deadline is None else int(order.deadline - now)
    return min(MAX_LIFE_S, max(MIN_LIFE_S, left))


def scheduling(order: Order, candidate: Candidate, gpu: bool, now: float) -> JsonObject:
    """Returns whether a machine is Spot, and its time limit, which needs no driver."""
    # A machine with a GPU, and a Spot one, cannot be moved to another host.
    moves = not (candidate.spot or gpu or candidate.machine_type.startswith(prices.WITH_GPUS))
    life = life_s(order, now)
    if order.deadline is None:
        limit: JsonObject = {"max_run_duration": {"seconds": life}}
    else:
        # Absolute: a duration would start again for each machine that replaces a lost one.
        ends = datetime.fromtimestamp(int(now + life), UTC)
        limit = {"termination_time": ends.isoformat().replace("+00:00", "Z")}
    return {
        "provisioning_model": "SPOT" if candidate.spot else "STANDARD",
        "automatic_restart": False,
        "on_host_maintenance": "MIGRATE" if moves else "TERMINATE",
        "instance_termination_action": "DELETE",
        **limit,
    }


def disk(order: Order, config: GcpConfig) -> JsonObject:
    """Returns the boot disk, which is deleted with the machine."""
    default = CONTAINER_IMAGE if config.container else DEFAULT_IMAGE_FAMILY
    return {
        "boot": True,
        "auto_delete": True,
        "initialize_params": {
            "source_image": config.image or config.image_family or default,
            "disk_size_gb": config.disk_gb,
            "disk_type": config.disk_type,
            "labels": dict(naming.labels(order, config.labels)),
        },
    }


def interface(config: GcpConfig) -> JsonObject:
    """Returns the network interface, with a public address only if the settings say so."""
    network = config.network
    if "/" not in network:
        network = f"projects/{config.project}/global/networks/{network}"
    card: JsonObject = {"network": network}
    if config.subnetwork:
        card["subnetwork"] = config.subnetwork
    if config.public_ip:
        card["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    return card


def gpus(order: Order, config: GcpConfig, machine_type: str) -> list[JsonObject]:
    """Returns the GPUs to attach; none for machine types that include GPUs."""
    if config.gpu_type is None or machine_type.startswith(prices.WITH_GPUS):
        return []
    count = config.gpu_count or max(1, config.gpus_of(order.gpus))
    return [{"accelerator_type": config.gpu_type, "accelerator_count": count}]


def metadata(order: Order, config: GcpConfig, wheel: str = "") -> dict[str, str]:
    """Returns the metadata of a machine, without secrets."""
    items = {
        "startup-script": script("startup.sh"),
        "shutdown-script": script("shutdown.sh"),
        naming.ORDER_KEY: order.model_dump_json(),
        naming.MACHINE_KEY: json.dumps(
            {
                "slots": config.workers_per_machine,
                "idle_s": config.idle_s,
                "stop_grace_s": config.stop_grace_s,
                "mlflow": config.mlflow,
            }
        ),
        # No login is needed: no port is open and no key is accepted.
        "enable-oslogin": "TRUE",
        "block-project-ssh-keys": "TRUE",
    }
    if config.wheelhouse:
        items["drillyard-wheelhouse"] = config.wheelhouse
    if config.container:
        items["drillyard-container"] = config.container
    if wheel:
        items["drillyard-wheel"] = f"{order.store_url.rstrip('/')}/{wheel}"
    return items


def script(name: str) -> str:
    """Returns a script of this package."""
    return (importlib.resources.files("drillyard_backends.gcp") / name).read_text("utf-8")


def _metadata(order: Order, config: GcpConfig, base: list[Item], wheel: str) -> list[Item]:
    values = {item["key"]: item["value"] for item in base}
    values |= metadata(order, config, wheel)
    return [{"key": key, "value": value} for key, value in values.items()]
