"""The port to a place that rents capacity: the protocol, its records, and how one is opened."""

from drillyard.backend.open import is_paid, open_backend
from drillyard.backend.port import (
    Backend,
    Liveness,
    Trait,
    console,
    listing_lag_s,
    prepare_store,
    protect,
    provider_now,
    setup_s,
    teardown_s,
)
from drillyard.backend.records import Cost, Lease, Order, Part

__all__ = [
    "Backend",
    "Cost",
    "Lease",
    "Liveness",
    "Order",
    "Part",
    "Trait",
    "console",
    "is_paid",
    "listing_lag_s",
    "open_backend",
    "prepare_store",
    "protect",
    "provider_now",
    "setup_s",
    "teardown_s",
]
