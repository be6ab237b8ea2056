"""From an order and settings to the template of its machines. Pure: no call is made here."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from drillyard.backend import Order
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.settings import DEFAULT_IMAGE_FAMILY, GcpConfig
from drillyard_backends.gcp.zones import Candidate

MIN_LIFE_S = 30
MAX_LIFE_S = 120 * 86_400
"""Google's limits of ``maxRunDuration``."""
DEFAULT_LIFE_S = 24 * 3600
"""Of a machine whose order has no deadline: nothing lives for ever."""
CONTAINER_IMAGE = "projects/cos-cloud/global/images/family/cos-stable"
_WITH_GPUS = ("a2-", "a3-", "a4-", "g2-", "g4-")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def instance_template(
    order: Order,
    config: GcpConfig,
    candidate: Candidate,
    name: str,
    now: float,
    base: Mapping[str, Any] | None = None,
    wheel: str = "",
) -> dict[str, Any]:
    """The template of the machines of a lease.

    Args:
        order: What is rented.
        config: Settings.
        candidate: Which machine type, Spot or not.
        name: Of the template.
        now: Epoch seconds, for what is left until the deadline.
        base: Properties of the user's own template, as the library's JSON-like mapping; what
            drillyard needs is laid over it.
        wheel: Key of drillyard's wheel in the order's store; empty: the image's own is used.

    Returns:
        The fields of ``compute_v1.InstanceTemplate``.
    """
    properties: dict[str, Any] = dict(base or {})
    if "disks" in properties:
        # Google's default is to keep a disk: each machine would leave one behind, which is paid.
        properties["disks"] = [{**one, "auto_delete": True} for one in properties["disks"]]
    if base is None:
        properties |= {
            "disks": [disk(order, config)],
            "network_interfaces": [interface(config)],
            "tags": {"items": list(config.tags)},
        }
        accelerators = gpus(order, config, candidate.machine_type)
        if accelerators:
            properties["guest_accelerators"] = accelerators
    properties |= {
        "machine_type": candidate.machine_type,
        "labels": {**properties.get("labels", {}), **naming.labels(order, config.labels)},
        "service_accounts": [{"email": config.service_account, "scopes": [_SCOPE]}],
        "scheduling": scheduling(
            order, candidate, bool(properties.get("guest_accelerators")), now
        ),
        "metadata": {"items": _metadata(order, config, properties.get("metadata", {}), wheel)},
    }
    return {
        "name": name,
        "description": f"drillyard lease {order.lease_id}",
        "properties": properties,
    }


def life_s(order: Order, now: float) -> int:
    """How long a machine that starts now may live, seconds."""
    left = DEFAULT_LIFE_S if order.deadline is None else int(order.deadline - now)
    return min(MAX_LIFE_S, max(MIN_LIFE_S, left))


def scheduling(order: Order, candidate: Candidate, gpu: bool, now: float) -> dict[str, Any]:
    """Spot or not, and the limit that holds with nobody driving."""
    # A machine with a GPU, and a Spot one, cannot be moved to another host.
    moves = not (candidate.spot or gpu or candidate.machine_type.startswith(_WITH_GPUS))
    life = life_s(order, now)
    if order.deadline is None:
        limit: dict[str, Any] = {"max_run_duration": {"seconds": life}}
    else:
        # Absolute: a duration would count anew for each machine that replaces a lost one.
        ends = datetime.fromtimestamp(int(now + life), UTC)
        limit = {"termination_time": ends.isoformat().replace("+00:00", "Z")}
    return {
        "provisioning_model": "SPOT" if candidate.spot else "STANDARD",
        "automatic_restart": False,
        "on_host_maintenance": "MIGRATE" if moves else "TERMINATE",
        "instance_termination_action": "DELETE",
        **limit,
    }


def disk(order: Order, config: GcpConfig) -> dict[str, Any]:
    """The disk that a machine starts from; it goes with the machine."""
    default = CONTAINER_IMAGE if config.container else DEFAULT_IMAGE_FAMILY
    return {
        "boot": True,
        "auto_delete": True,
        "initialize_params": {
            "source_image": config.image or config.image_family or default,
            "disk_size_gb": config.disk_gb,
            "disk_type": config.disk_type,
            "labels": naming.labels(order, config.labels),
        },
    }


def interface(config: GcpConfig) -> dict[str, Any]:
    """The network card: no public address unless asked for."""
    network = config.network
    if "/" not in network:
        network = f"projects/{config.project}/global/networks/{network}"
    found: dict[str, Any] = {"network": network}
    if config.subnetwork:
        found["subnetwork"] = config.subnetwork
    if config.public_ip:
        found["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    return found


def gpus(order: Order, config: GcpConfig, machine_type: str) -> list[dict[str, Any]]:
    """GPUs that are attached; machine types that bring their own need none."""
    if config.gpu_type is None or machine_type.startswith(_WITH_GPUS):
        return []
    count = config.gpu_count or max(1, order.gpus * config.workers_per_machine)
    return [{"accelerator_type": config.gpu_type, "accelerator_count": count}]


def metadata(order: Order, config: GcpConfig, wheel: str = "") -> dict[str, str]:
    """What a machine is told; no secret is in it."""
    found = {
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
        # Nobody logs in: there is no port open and no key accepted.
        "enable-oslogin": "TRUE",
        "block-project-ssh-keys": "TRUE",
    }
    if config.gpu_type or any(t.startswith(_WITH_GPUS) for t in config.machine_types):
        # Google's Deep Learning images install the driver as they boot when they are told so.
        found["install-nvidia-driver"] = "True"
    if config.wheelhouse:
        found["drillyard-wheelhouse"] = config.wheelhouse
    if config.container:
        found["drillyard-container"] = config.container
    if wheel:
        found["drillyard-wheel"] = f"{order.store_url.rstrip('/')}/{wheel}"
    return found


def script(name: str) -> str:
    """A script of this package."""
    return (importlib.resources.files("drillyard_backends.gcp") / name).read_text("utf-8")


def _metadata(
    order: Order, config: GcpConfig, base: Mapping[str, Any], wheel: str
) -> list[dict[str, str]]:
    told = {item["key"]: item["value"] for item in base.get("items", [])}
    told |= metadata(order, config, wheel)
    return [{"key": key, "value": value} for key, value in told.items()]
