"""The records that a backend reads and returns: orders, leases, their parts, and costs."""

from __future__ import annotations

from pydantic import Field

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import Record


class Order(Record):
    """What to rent. Frozen; the JSON alone is enough to rent or to tear down."""

    lease_id: str
    """``dy-<10 hex>``: the provider-side name of everything that belongs to the lease."""
    experiment: str
    store_url: str
    """URL by which the workers reach the store."""
    workers: int = 1
    threads: int = 1
    gpus: int = 0
    jax: bool = Field(False, exclude_if=lambda value: not value)
    """Whether the learner computes with JAX, which needs a plugin to use a GPU."""
    idle_s: float = 60.0
    """A worker with nothing left to do exits after this time, in seconds."""
    deadline: float | None = None
    """Epoch seconds, by the store's clock, after which no machine may run."""
    deadline_of: str = ""
    """The setting that the deadline comes from, with its value, for messages."""
    code: str | None = None
    """sha256 of the code bundle that workers install."""
    requirements: list[str] = Field(default_factory=list)
    environments: list[str] = Field(default_factory=lambda: ["default"])
    preload: list[str] = Field(default_factory=list)
    """Modules that a warm worker imports before its first ticket."""
    spread: int = 1
    """Number of machines that one run can use at once, if the backend has such jobs."""
    hosts: int = Field(0, exclude_if=lambda value: value == 0)
    """Further workers, which host copies of the simulator for the run on another one."""
    together: int = Field(1, exclude_if=lambda value: value == 1)
    """Trainings of one process, which are computed together."""
    settings: JsonObject = Field(default_factory=dict)
    """The backend's own settings; references to secrets, never secrets."""

    @property
    def all_workers(self) -> int:
        """The workers that do tickets, and those that host copies."""
        return self.workers + self.hosts


class Lease(Record):
    """Capacity that was rented."""

    lease_id: str
    backend: str
    order: Order
    provider: JsonObject = Field(default_factory=dict)
    """The provider's own ids: process ids, group names, clusters."""
    created_at: float


class Part(Record):
    """One kind of resource that an order creates, also if it is free."""

    what: str
    """A description: ``machine n2-standard-4``, ``instance template``, ``bucket``."""
    name: str = ""
    """Name that the provider will give it, if known."""
    count: int = 1
    where: str = ""
    """Zones or regions, in the order in which they are tried."""
    per_hour: float = 0.0
    """Price of one of them, in the cost's currency."""
    note: str = ""


class Cost(Record):
    """What a lease costs, and its parts."""

    per_hour: float = 0.0
    """Hourly price of the whole lease."""
    total: float = 0.0
    """Cost over the longest lifetime; ``prices.over`` fills it in once the lifetime is known."""
    currency: str = "USD"
    prices_of: str = ""
    """Date of the price list."""
    note: str = ""
    spot: bool = False
    """True if the price is for machines that can be preempted."""
    parts: list[Part] = Field(default_factory=list)
    """What will be created."""
    unpriced: list[str] = Field(default_factory=list)
    """Machine types that the price list does not know; the sums do not count them."""
