"""Where a group can be, and which machines are tried where, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drillyard_backends.gcp import prices
from drillyard_backends.gcp.settings import GcpConfig


@dataclass(frozen=True, order=True)
class Place:
    """A zone, or a region with the zones of it that may be used.

    Attributes:
        name: ``europe-west1-b`` or ``europe-west1``.
        zones: The zones of a region; empty for a zone.
    """

    name: str
    zones: tuple[str, ...] = ()

    @property
    def regional(self) -> bool:
        """True for a region."""
        return bool(self.zones)

    @property
    def path(self) -> str:
        """``zones/Z`` or ``regions/R``, as in addresses of the API."""
        return f"{'regions' if self.regional else 'zones'}/{self.name}"

    @classmethod
    def parse(cls, path: str) -> Place:
        """From ``zones/Z`` or ``regions/R``, also at the end or in the middle of an address."""
        parts = path.strip("/").split("/")
        for kind in ("zones", "regions"):
            if kind in parts:
                name = parts[parts.index(kind) + 1]
                return cls(name, (name,) if kind == "regions" else ())
        raise ValueError(f"no place in {path!r}")


@dataclass(frozen=True)
class Candidate:
    """One thing to try.

    Attributes:
        variant: Number of (provisioning model, machine type), from 0; part of the group's name.
        machine_type: Such as ``n2-highcpu-8``.
        spot: True for Spot machines.
        place: Where.
    """

    variant: int
    machine_type: str
    spot: bool
    place: Place

    @property
    def words(self) -> str:
        """For people and for the record of what was tried."""
        kind = "Spot" if self.spot else "on-demand"
        return f"{self.machine_type} ({kind}) in {self.place.name}"


def places(config: GcpConfig) -> list[Place]:
    """Zones, or the regions that they are of, in the order given."""
    if not config.regional:
        return [Place(zone) for zone in config.zones]
    regions: dict[str, list[str]] = {}
    for zone in config.zones:
        regions.setdefault(zone.rpartition("-")[0], []).append(zone)
    return [Place(region, tuple(zones)) for region, zones in regions.items()]


def candidates(config: GcpConfig) -> list[Candidate]:
    """All that may be tried: per machine type all places, Spot before on-demand.

    With ``cheapest_first`` they are in the order of their prices. The number of a variant is part
    of a group's name, so it never depends on a price.
    """
    falls_back = config.on_demand_after is not None or config.on_demand_when_full
    models = [True, False] if config.spot and falls_back else [config.spot]
    variants = [(spot, kind) for spot in models for kind in config.machine_types]
    tries = [
        Candidate(number, kind, spot, place)
        for number, (spot, kind) in enumerate(variants)
        for place in places(config)
    ]
    if not config.cheapest_first:
        return tries
    return sorted(tries, key=lambda c: (not c.spot, hourly(config, c) or float("inf")))


def hourly(config: GcpConfig, candidate: Candidate) -> float | None:
    """Returns the hourly price of a candidate's machine with its GPUs; None if unknown.

    Args:
        config: For attached GPUs.
        candidate: What may be tried.
    """
    place = candidate.place
    region = place.name if place.regional else place.name.rpartition("-")[0]
    host = prices.price(candidate.machine_type, region, candidate.spot)
    included = candidate.machine_type.startswith(prices.WITH_GPUS)
    if config.gpu_type is None or included or host is None:
        return config.price_per_hour if host is None else host
    gpu = prices.gpu_price(config.gpu_type, region, candidate.spot)
    return config.price_per_hour if gpu is None else host + (config.gpu_count or 1) * gpu


def choices(config: GcpConfig, losses: int, all_: Sequence[Candidate]) -> list[Candidate]:
    """What may be tried for a machine.

    Args:
        config: For the policy.
        losses: How often this machine was taken away already.
        all_: From ``candidates``.

    Returns:
        Spot ones first; on-demand ones alone after ``on_demand_after`` losses, and behind the Spot
        ones with ``on_demand_when_full``.
    """
    if not config.spot:
        return list(all_)
    limit = config.on_demand_after
    if limit is not None and losses >= limit:
        return [c for c in all_ if not c.spot]
    return list(all_) if config.on_demand_when_full else [c for c in all_ if c.spot]
