"""The compute cluster: a named one that is kept, or the lease's own."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from datetime import datetime

from drillyard.backend import Order
from drillyard.documents.json_types import Json, JsonObject, as_integer, as_list, as_object
from drillyard.errors import ControlPlaneError, UserError
from drillyard.mailbox.records import Phase
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import LEASE
from drillyard_backends.azure import naming
from drillyard_backends.azure.errors import Exists, Missing, Unchanged
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

READY = frozenset({"succeeded"})
DELETING = "deleting"
"""It takes minutes; jobs may run until then, and new ones are refused."""
BROKEN = frozenset({"failed", "canceled"})
"""States of a cluster whose newest change failed. It stays, and may still have nodes and jobs."""
TAKEN_S = 60.0
"""After this time a cluster that is in the way and cannot be seen is waited for no longer."""
LOOK_S = 5.0
KEPT_NODES = 20
"""Largest number of nodes of a kept cluster, unless the settings or an order name more."""
_ENDS_IN_DIGITS = re.compile(r"-\d+\Z")
_LONGEST_OWN = len("dy-0123456789c")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as the service describes it.

    Attributes:
        name: Its name.
        state: State of its newest change, in lower case: ``succeeded``, ``creating``, ``failed`` …
        size: Size of its nodes, as the service writes it.
        low_priority: True if its nodes can be preempted.
        most: Largest number of nodes.
        nodes: Current number of nodes.
        unready: Nodes that no job can use: they are being prepared, or are unusable.
        identity: ``systemassigned``, ``userassigned`` or empty.
        identities: Resource ids of user-assigned identities, in lower case.
        errors: Its errors, as code and text.
        region: Where its nodes are; empty if unknown.
        tags: Its tags.
        created_at: Epoch seconds; 0 if unknown.
    """

    name: str
    state: str = ""
    size: str = ""
    low_priority: bool = False
    most: int = 0
    nodes: int = 0
    unready: int = 0
    identity: str = ""
    identities: frozenset[str] = frozenset()
    errors: list[str] = field(default_factory=list)
    region: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0

    @classmethod
    def of(cls, document: JsonObject) -> Cluster:
        """Reads the service's answer; missing fields are empty."""
        outer = section(document, "properties")
        inner = section(outer, "properties")
        counts = section(inner, "nodeStateCounts")
        identity = section(document, "identity")
        unready = ("preparingNodeCount", "unusableNodeCount")
        return cls(
            name=str(document.get("name", "")),
            state=str(outer.get("provisioningState") or "").lower(),
            size=str(inner.get("vmSize") or ""),
            low_priority=str(inner.get("vmPriority") or "").lower() == "lowpriority",
            most=as_integer(section(inner, "scaleSettings").get("maxNodeCount")) or 0,
            nodes=as_integer(inner.get("currentNodeCount")) or 0,
            unready=sum(as_integer(counts.get(name)) or 0 for name in unready),
            identity=str(identity.get("type") or "").lower().replace("none", ""),
            identities=frozenset(
                name.lower() for name in section(identity, "userAssignedIdentities")
            ),
            errors=_errors(outer.get("provisioningErrors"), inner.get("errors")),
            region=str(outer.get("computeLocation") or document.get("location") or "").lower(),
            tags={str(k): str(v) for k, v in section(document, "tags").items()},
            created_at=stamp(outer.get("createdOn")),
        )


def stamp(text: object) -> float:
    """Returns the epoch seconds of Azure's time; 0 for none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _errors(*lists: Json) -> list[str]:
    """Returns code and text of errors; Azure nests some of them in ``error``."""
    texts: list[str] = []
    for item in (item for errors in lists for item in as_list(errors)):
        outer = as_object(item)
        error = as_object(outer.get("error")) or outer
        text = ": ".join(str(error[k]) for k in ("code", "message") if error.get(k))
        if text and text not in texts:
            texts.append(text)
    return texts


def own_name(lease_id: str) -> str:
    """Returns the name of a lease's own cluster: its id, in a form that the service accepts.

    The service's specification refuses names that end in ``-`` and digits alone, which one lease
    id in a hundred does.
    """
    return f"{lease_id}c" if _ENDS_IN_DIGITS.search(lease_id) else lease_id


def lease_of(name: str) -> str | None:
    """The lease whose own cluster has this name; None where it is another's."""
    lease_id = name.removesuffix("c") if len(name) == _LONGEST_OWN else name
    return lease_id if LEASE.match(lease_id) and name == own_name(lease_id) else None


def name_of(config: AzureConfig, order: Order) -> str:
    """Returns the name of the cluster that a lease's jobs run on."""
    return config.compute or own_name(order.lease_id)


def runs_of_a_job(config: AzureConfig, order: Order) -> int:
    """Runs that a job does side by side: some on each node, or one over all its nodes."""
    alone = order.spread > 1 or order.hosts > 0
    return 1 if alone else config.instance_count * config.runs_per_machine


def width(config: AzureConfig, order: Order, ticket: str | None = None) -> int:
    """Nodes of a job: as the settings say, or the one that trains and those that host copies.

    Args:
        config: The settings.
        order: The order of the lease.
        ticket: What the job is for; None: a training. Whatever follows it uses no hosts.
    """
    if not order.hosts:
        return config.instance_count
    trains = ticket is None or ticket.endswith(f".{Phase.TRAIN.value}")
    return order.all_workers if trains else 1


def nodes(config: AzureConfig, order: Order) -> int:
    """Nodes that a lease takes at the most: those of whole jobs."""
    return -(-order.workers // runs_of_a_job(config, order)) * width(config, order)


def most_nodes(config: AzureConfig, order: Order) -> int:
    """Returns the largest number of nodes of a new cluster.

    A kept one is used as it is by later experiments. Only nodes that are there cost money.
    """
    return max(nodes(config, order), KEPT_NODES if config.compute is not None else 0)


def ensure(
    service: Service, config: AzureConfig, order: Order, location: str, clock: Clock = SYSTEM
) -> bool:
    """Make the cluster unless it is there; True when this call did.

    What is there is used as it is: an existing cluster is never changed.

    Raises:
        UserError: Another workspace of the region has a cluster of that name.
        ControlPlaneError: The cluster is there, and could not be read for ``TAKEN_S``.
    """
    name, began = name_of(config, order), clock.monotonic()
    while find(service, name) is None:
        try:
            service.make_compute(name, body(config, order, location))
            return True
        except Exists as error:
            # A racer was faster, or the answer to our own request was lost; what was just made
            # may be answered as missing for a while.
            if find(service, name) is not None:
                return False
            if clock.monotonic() - began > TAKEN_S:
                if isinstance(error, Unchanged):
                    # A cluster of another workspace would be a conflict: this one is in ours.
                    raise ControlPlaneError(
                        f"cluster {name} is there, and cannot be read yet", hint="try again"
                    ) from error
                raise UserError(
                    f"the name {name} is taken by a cluster of another workspace in {location}: "
                    f"{error}",
                    hint="set another name as backends.azure.compute: names are unique in a "
                    "region",
                ) from error
            clock.wait(threading.Event(), LOOK_S)
    return False


def find(service: Service, name: str) -> Cluster | None:
    """A cluster, or None."""
    try:
        return Cluster.of(service.compute(name))
    except Missing:
        return None


def words(service: Service, name: str) -> list[str]:
    """Returns a description of a cluster for people."""
    cluster = find(service, name)
    if cluster is None:
        return [f"cluster {name} does not exist"]
    kind = "low priority" if cluster.low_priority else "dedicated"
    nodes = f"{cluster.nodes} of at most {cluster.most} nodes"
    return [
        f"cluster {name}: {cluster.state}, {cluster.size} ({kind}), {nodes}",
        *(f"cluster {name}: {line}" for line in cluster.errors),
    ]


def body(config: AzureConfig, order: Order, location: str) -> dict[str, object]:
    """The cluster that is made, as the service's API takes it.

    Args:
        config: The settings.
        order: The order of the cluster's lease.
        location: Region of the workspace, for a cluster without a region of its own.
    """
    identity: dict[str, object] = {"type": "SystemAssigned"}
    if config.identity is not None:
        identity = {"type": "UserAssigned", "userAssignedIdentities": {config.identity: {}}}
    return {
        "location": config.location or location,
        "tags": naming.tags(order, config.tags) if config.compute is None else dict(config.tags),
        "identity": identity,
        "properties": {
            "computeType": "AmlCompute",
            "properties": {
                "vmSize": config.vm_size,
                "vmPriority": "LowPriority" if config.low_priority else "Dedicated",
                # Without it, the public SSH port of nodes without a virtual network is open.
                "remoteLoginPortPublicAccess": "Disabled",
                "scaleSettings": {
                    "minNodeCount": 0,
                    "maxNodeCount": config.max_nodes or most_nodes(config, order),
                    "nodeIdleTimeBeforeScaleDown": f"PT{config.node_idle_s}S",
                },
            },
        },
    }
