"""What capacity costs: a price per worker and hour, and what follows from it.

Backends have the prices (``Backend.estimate``); this module only multiplies. Local is free.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from drillyard.backend import Cost, Part

FREE = Cost(note="your own machine")
MOST_MARGIN = 30
"""The most that is counted on top of old prices, in percent."""


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


def months_old(prices_of: str, now: float) -> int:
    """Returns the age of a price list in whole months; 0 for a list without a date.

    Args:
        prices_of: Its date, ``2026-11-01``.
        now: Epoch seconds.
    """
    try:
        listed = date.fromisoformat(prices_of)
    except ValueError:
        return 0
    today = datetime.fromtimestamp(now, UTC).date()
    months = (today.year - listed.year) * 12 + today.month - listed.month
    return max(0, months - (today.day < listed.day))


def dated(prices_of: str, now: float) -> str:
    """Returns the date of a price list with its age, in words."""
    months = months_old(prices_of, now)
    return f"{prices_of}, {months} month{'' if months == 1 else 's'} old" if months else prices_of


def aged(cost: Cost, now: float) -> Cost:
    """Returns a cost that counts more for old prices, as a part of its own.

    Args:
        cost: From a price list.
        now: Epoch seconds.
    """
    share = min(MOST_MARGIN, months_old(cost.prices_of, now))
    if not share or cost.per_hour <= 0:
        return cost
    more = cost.per_hour * share / 100
    note = f"{share} %: 1 % for each month, at most {MOST_MARGIN} %"
    margin = Part(what=f"margin for prices of {cost.prices_of}", per_hour=more, note=note)
    parts = [*cost.parts, margin]
    return cost.model_copy(update={"per_hour": cost.per_hour + more, "parts": parts})


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
