"""The port to a provider of capacity: the protocol, its records, and how to open a backend."""

from drillyard.backend.capabilities import (
    Delays,
    ExplainsLosses,
    FindsLeases,
    HasClock,
    HasConsole,
    HasDelays,
    HasMachineTypes,
    HasSettings,
    NeedsExtra,
    PacksRuns,
    PriceUpdate,
    ProtectsLeases,
    ProvidesStore,
    RefreshesPrices,
    SimulatesPreemption,
    TendsLeases,
    delays_of,
)
from drillyard.backend.open import is_paid, open_backend
from drillyard.backend.port import Backend, Liveness, Trait
from drillyard.backend.records import Cost, Lease, Order, Part

__all__ = [
    "Backend",
    "Cost",
    "Delays",
    "ExplainsLosses",
    "FindsLeases",
    "HasClock",
    "HasConsole",
    "HasDelays",
    "HasMachineTypes",
    "HasSettings",
    "Lease",
    "Liveness",
    "NeedsExtra",
    "Order",
    "PacksRuns",
    "Part",
    "PriceUpdate",
    "ProtectsLeases",
    "ProvidesStore",
    "RefreshesPrices",
    "SimulatesPreemption",
    "TendsLeases",
    "Trait",
    "delays_of",
    "is_paid",
    "open_backend",
]
