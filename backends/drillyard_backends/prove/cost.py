"""What a proof costs at most, before anything is created."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.backend import Backend, Order
from drillyard.errors import ConfigError
from drillyard_backends.prove.probes import Probe, Prover, S

ENDING_S = 300.0
"""Seconds for the end of the lease, which is paid as well."""
EXTRAS = 0.05
"""Requests, disks, addresses and a day of a cluster's load balancer, in the list's currency."""


@dataclass(frozen=True, slots=True)
class Price:
    """Upper bounds of a proof.

    Attributes:
        per_hour: Price of everything that can run at once.
        currency: Currency of all amounts.
        prices_of: Date of the price list.
        bounds: Probe -> most that its time can cost.
        life_s: Seconds after which no machine may run.
        total: Most that the whole proof can cost.
        unpriced: Machines without a known price.
    """

    per_hour: float
    currency: str
    prices_of: str
    bounds: dict[str, float]
    life_s: float
    total: float
    unpriced: list[str]


def price_of(backend: Backend, order: Order, probes: tuple[Probe[S], ...], pace: float) -> Price:
    """Returns the bounds: every paid second of every probe, with all machines running.

    Args:
        backend: Knows the prices.
        order: The order of the proof's lease.
        probes: What is done.
        pace: Factor of all waiting.
    """
    cost = backend.estimate(order)
    seconds = {probe.name: probe.seconds * pace if probe.paid else 0.0 for probe in probes}
    bounds = {name: cost.per_hour * each / 3600.0 for name, each in seconds.items()}
    life_s = sum(seconds.values()) + ENDING_S
    paid = any(probe.paid for probe in probes)
    total = cost.per_hour * life_s / 3600.0 + EXTRAS if paid else 0.0
    return Price(
        cost.per_hour, cost.currency, cost.prices_of, bounds, life_s, total, cost.unpriced
    )


def check(prover: Prover[S], price: Price, max_cost: float) -> None:
    """Refuses a proof that could cost more than it may.

    Raises:
        ConfigError: It could; or the price list does not know its machines.
    """
    if not max_cost > 0.0 or max_cost == float("inf"):
        why, allowed = "is not an amount of money", "a number above 0"
        hint = "--max-cost 2"
    elif price.unpriced:
        names = ", ".join(price.unpriced)
        why = f"cannot be kept: the price list of {price.prices_of} does not know {names}"
        allowed = None
        hint = f"another machine in the settings; or add its price (docs/{prover.page})"
    elif price.total > max_cost:
        why = (
            f"is too small: the proof costs at most {price.total:.2f} {price.currency} "
            f"({price.per_hour:.2f} an hour for {price.life_s / 60:.0f} minutes)"
        )
        allowed = f"{price.total:.2f} or more"
        hint = f"--max-cost {price.total + 0.005:.2f}; or cheaper machines in the settings"
    else:
        return
    raise ConfigError(
        why, file="command line", field="--max-cost", value=max_cost, allowed=allowed, hint=hint
    )
