"""What capacity costs: a price per worker and hour, and what follows from it.

Backends have the prices (``Backend.estimate``); this module only multiplies. Local is free.
"""

from __future__ import annotations

from drillyard.backend import Cost

FREE = Cost(note="your own machine")


def cost(
    per_worker_hour: float,
    workers: int,
    hours: float | None,
    *,
    currency: str = "USD",
    prices_of: str = "",
    note: str = "",
) -> Cost:
    """Returns the price of an order.

    Args:
        per_worker_hour: Price of one worker for an hour.
        workers: Number of workers.
        hours: Duration in hours. None means unlimited: the total stays 0 and the note says so.
        currency: Currency of the price.
        prices_of: Date of the price list.
        note: A note for readers.
    """
    per_hour = per_worker_hour * workers
    if hours is None and per_hour > 0:
        note = f"{note}; no limit in time" if note else "no limit in time"
    return Cost(
        per_hour=per_hour,
        total=per_hour * (hours or 0.0),
        currency=currency,
        prices_of=prices_of,
        note=note,
    )


def over(cost: Cost, seconds: float) -> Cost:
    """Returns the cost of a lease with a given lifetime.

    Args:
        cost: The cost with its hourly price.
        seconds: Longest lifetime of the lease.
    """
    return cost.model_copy(update={"total": spent(cost.per_hour, seconds)})


def spent(per_hour: float, seconds: float) -> float:
    """Returns what ``seconds`` of a lease cost at its hourly price."""
    return per_hour * max(0.0, seconds) / 3600.0
