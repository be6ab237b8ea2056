"""What exists in Compute Engine, as records; ``documents.py`` shows them, others move them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from drillyard_emulators.http.fields import Document, Fields, member
from drillyard_emulators.http.machines import Machine


@dataclass(slots=True)
class Disk:
    """A persistent disk."""

    disk_id: int
    name: str
    zone: str
    size_gb: int
    kind: str
    labels: dict[str, str]
    auto_delete: bool
    created: float
    user: str | None = None
    """Name of the instance it is attached to."""


@dataclass(slots=True)
class Instance:
    """A virtual machine.

    Attributes:
        properties: Properties of its template when it was created.
        group: Key of its managed group (``zones/Z/NAME``), or None.
        status: Google's word: PROVISIONING, RUNNING, STOPPING, TERMINATED.
        gone: When it was deleted; the record stays for the account.
    """

    instance_id: int
    name: str
    zone: str
    properties: Document
    metadata: dict[str, str]
    labels: dict[str, str]
    created: float
    group: str | None = None
    status: str = "PROVISIONING"
    started: float | None = None
    gone: float | None = None
    preempted: bool = False
    disks: list[Disk] = field(default_factory=list)
    machine: Machine | None = None
    ended_by: str = ""
    listed_from: float = 0.0
    listed_until: float = float("inf")
    generation: int = 1

    @property
    def key(self) -> str:
        """``zones/Z/instances/NAME``: what identifies it while it exists."""
        return f"zones/{self.zone}/instances/{self.name}"

    @property
    def scheduling(self) -> Fields:
        """Its scheduling options."""
        return member(self.properties, "scheduling")

    @property
    def spot(self) -> bool:
        """Whether it can be taken away."""
        return self.scheduling.get("provisioningModel") == "SPOT" or bool(
            self.scheduling.get("preemptible")
        )

    @property
    def machine_type(self) -> str:
        """Name of its machine type."""
        return str(self.properties["machineType"]).rpartition("/")[2]


@dataclass(slots=True)
class Template:
    """An instance template, global or of a region."""

    template_id: int
    name: str
    where: str
    document: Document
    created: float
    listed_from: float = 0.0
    listed_until: float = float("inf")

    @property
    def key(self) -> str:
        """``global/instanceTemplates/NAME``."""
        return f"{self.where}/instanceTemplates/{self.name}"


@dataclass(slots=True)
class Managed:
    """One place in a managed group, with or without an instance."""

    name: str
    action: str = "CREATING"
    zone: str | None = None
    instance: Instance | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    errors: list[Document] = field(default_factory=list)
    template: str = ""


@dataclass(slots=True)
class Group:
    """A managed instance group of a zone or region."""

    group_id: int
    name: str
    where: str
    document: Document
    template: str
    target: int
    zones: list[str]
    created: float
    managed: dict[str, Managed] = field(default_factory=dict)
    problems: list[Document] = field(default_factory=list)
    deleting: bool = False
    counter: int = 0
    listed_from: float = 0.0
    listed_until: float = float("inf")

    @property
    def key(self) -> str:
        """``zones/Z/instanceGroupManagers/NAME``."""
        return f"{self.where}/instanceGroupManagers/{self.name}"

    @property
    def repairs(self) -> bool:
        """Whether a failed instance is recreated."""
        policy = member(self.document, "instanceLifecyclePolicy")
        return bool(policy.get("defaultActionOnFailure", "REPAIR") == "REPAIR")


class StockOut(BaseModel):
    """A place that has no machines for now.

    Attributes:
        zone: Where.
        machine_type: Only this type; None for all.
        spot: Only Spot machines, or only others; None for both.
        times: How many attempts it refuses; None for ever.
    """

    model_config = ConfigDict(extra="forbid")

    zone: str
    machine_type: str | None = None
    spot: bool | None = None
    times: int | None = None
    played: int = 0

    def hits(self, zone: str, machine_type: str, spot: bool) -> bool:
        """Whether it refuses this machine."""
        if self.times is not None and self.played >= self.times:
            return False
        kind = self.machine_type in (None, machine_type) and self.spot in (None, spot)
        return kind and zone == self.zone


class FalseDone(BaseModel):
    """Operations that say DONE and did nothing.

    Attributes:
        kind: Operation: ``delete``, ``compute.instanceGroupManagers.deleteInstances``, …
        match: Part of the target's link.
        times: How often; None for ever.
        probability: Share that it hits.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str = "delete"
    match: str = ""
    times: int | None = None
    probability: float = Field(default=1.0, ge=0, le=1)
    played: int = 0


class Physics(BaseModel):
    """How the emulated cloud behaves; all times in emulated seconds.

    Attributes:
        boot_s: From PROVISIONING to RUNNING.
        boot_failures: Machines whose start-up script never runs: how many of the next ones.
        operation_s: How long an operation takes.
        retry_s: How long a group waits before it tries again to make an instance.
        notice_s: From the power button to the cut, at preemption.
        shutdown_s: The same at deletion.
        listing_lag_s: At most so long a new resource is missing from lists, and a deleted one in
            them; each has its own random lag.
        listing_lag_least_s: The shortest of these lags.
        unreachable_lists: So many lists of all places reach none of them.
        lost_stay_listed: A machine that was taken away stays in its group's listing, without a
            status (no page says so); False: its row goes, and the group keeps its size.
        unreachable: Places (``zones/Z``) that lists of all places cannot reach: what they have is
            left out, and a warning in its place says so.
        one_change_at_a_time: A group refuses a change while the operation of another one runs.
        processes: Machines run their start-up script; without, they only exist.
        skew_s: By how much machines' own clocks are wrong (in their metadata server's dates).
        undeletable_s: From the first delete of a machine on, so long no group may delete one: a
            policy denies it. Each try is kept in the machine's row as its last attempt.
        denied_deletes: How often that was played.
        stockouts: Places without machines.
        false_done: Operations that lie.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    boot_s: float = 0.5
    boot_failures: int = 0
    operation_s: float = 0.05
    retry_s: float = 2.0
    notice_s: float = 30.0
    shutdown_s: float = 30.0
    listing_lag_s: float = 0.0
    listing_lag_least_s: float = 0.0
    unreachable: list[str] = Field(default_factory=list)
    unreachable_lists: int = 0
    lost_stay_listed: bool = True
    one_change_at_a_time: bool = False
    processes: bool = True
    skew_s: float = 0.0
    undeletable_s: float = 0.0
    denied_deletes: int = 0
    stockouts: list[StockOut] = Field(default_factory=list)
    false_done: list[FalseDone] = Field(default_factory=list)
