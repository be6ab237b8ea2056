"""The records that a backend reads and returns: orders, leases, their parts, and costs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from drillyard.mailbox.records import Record


class Order(Record):
    """What to rent. Frozen; the text alone is enough to rent or to tear down."""

    lease_id: str
    """``dy-<10 hex>``: the provider-side name of everything that belongs to the lease."""
    experiment: str
    store_url: str
    """As the workers reach it."""
    workers: int = 1
    threads: int = 1
    gpus: int = 0
    idle_s: float = 60.0
    """A worker with nothing left to do leaves after this time."""
    deadline: float | None = None
    """Epoch seconds after which no machine may live."""
    deadline_of: str = ""
    """The setting that it comes from, with its value, for messages."""
    code: str | None = None
    """sha256 of the code bundle that workers install."""
    requirements: list[str] = Field(default_factory=list)
    environments: list[str] = Field(default_factory=lambda: ["default"])
    preload: list[str] = Field(default_factory=list)
    """Modules that a warm worker imports before its first ticket."""
    spread: int = 1
    """On so many machines at once one run can be of use, where the backend has such jobs."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The backend's own settings; references to secrets, never secrets."""


class Lease(Record):
    """Capacity that was rented."""

    lease_id: str
    backend: str
    order: Order
    provider: dict[str, Any] = Field(default_factory=dict)
    """The provider's own ids: process ids, group names, clusters."""
    created_at: float


class Part(Record):
    """One kind of thing that an order creates, also where it costs nothing."""

    what: str
    """In words: ``machine n2-standard-4``, ``instance template``, ``bucket``."""
    name: str = ""
    """What the provider will call it, where that is known."""
    count: int = 1
    where: str = ""
    """Zones or regions, in the order in which they are tried."""
    per_hour: float = 0.0
    """Price of one of them, in the cost's currency."""
    note: str = ""


class Cost(Record):
    """What a lease costs, and what it is made of."""

    per_hour: float = 0.0
    """Of the whole lease."""
    total: float = 0.0
    """Over its longest life; whoever knows the life fills it in (``prices.over``)."""
    currency: str = "USD"
    prices_of: str = ""
    """Date of the price list."""
    note: str = ""
    spot: bool = False
    """At the price of machines that can be taken away."""
    parts: list[Part] = Field(default_factory=list)
    """What will be created."""
