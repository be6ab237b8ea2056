"""What an experiment may cost: two limits that a backend which costs money makes mandatory.

``budget.max_hours`` is the longest life of a command's machines, ``budget.max_cost`` the most that
all machines of the experiment may ever cost. Before anything is rented the price of all machines
over ``max_hours`` must be within ``max_cost``; a machine's own limit is then what is left of both
(``allowance``), so that neither needs a driver to hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from drillyard.backend import Backend, Cost, Order, RefreshesPrices, is_paid
from drillyard.backend.prices import aged, dated, over
from drillyard.backend.settings.resolve import fields_of
from drillyard.errors import ConfigError, UserError
from drillyard.findings import Finding, passed, problem
from drillyard.mailbox.records import Phase
from drillyard.registry import load
from drillyard.runs.parallelism import workers
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock

_FIELDS = {
    "max_hours": ("the longest that machines may live, in hours", "2"),
    "max_cost": ("the most that machines may cost, in the currency of the price list", "5"),
}

_SLACK_S = 1800.0
"""Time for setup, evaluation and the last writes, in seconds."""
_REPEATS = 4
"""How often a training may be started again before the wait for it ends."""
_LONGEST_S = 30 * 86400.0


def missing(spec: ExperimentSpec) -> list[ConfigError]:
    """The mandatory limits that are missing; makes no request.

    Args:
        spec: The experiment.
    """
    paid = [text for text in spec.places if is_paid(text)]
    if not paid:
        return []
    return [
        ConfigError(
            f"is mandatory on {paid[0]!r}, which costs money: {what}",
            field=f"budget.{name}",
            allowed="a number above 0",
            hint=f"write `budget: {{{name}: {example}}}`, or --set budget.{name}={example}",
        )
        for name, (what, example) in _FIELDS.items()
        if getattr(spec.budget, name) is None
        and not (name == "max_cost" and spec.budget.no_cost_limit)
    ]


def longest_s(spec: ExperimentSpec, phase: Phase) -> float:
    """The longest wait for a ticket, so that no wait is endless.

    This does not limit the work itself: ``budget.max_hours``, ``train.max_time_s`` and
    ``budget.stall_s`` do, and they end a ticket by themselves. It is the last resort if they fail:
    their sum with room for repeats, and a month without them.

    Args:
        spec: The experiment.
        phase: Phase of the ticket.

    Returns:
        Seconds.
    """
    if spec.budget.max_hours is not None:
        return spec.budget.max_hours * 3600.0 + _SLACK_S
    train = spec.train
    if phase is Phase.TRAIN and train is not None and train.max_time_s is not None:
        # A run that waits for a free worker waits for whole runs.
        rounds = math.ceil(len(spec.seeds) / workers(spec))
        one = train.max_time_s + (spec.budget.stall_s or _SLACK_S) + _SLACK_S
        return rounds * one * _REPEATS
    return _LONGEST_S


def priced(backend: Backend, order: Order, clock: Clock) -> Cost:
    """The cost of an order for each hour, with the margin for old prices; makes no request."""
    return aged(backend.estimate(order), clock.now())


def offer(spec: ExperimentSpec, backend: Backend, order: Order, clock: Clock = SYSTEM) -> Cost:
    """The cost of an order over the longest life that the budget allows; makes no request.

    Args:
        spec: For ``budget.max_hours``.
        backend: Its price list.
        order: What would be rented.
        clock: For the age of the prices.
    """
    cost = priced(backend, order, clock)
    hours = spec.budget.max_hours
    return cost if hours is None else over(cost, hours * 3600.0)


def judged(spec: ExperimentSpec, cost: Cost) -> Iterator[Finding]:
    """Whether an offer is within the budget; no finding if it is free.

    Args:
        spec: For ``budget``.
        cost: From ``offer``.
    """
    hours, most = spec.budget.max_hours, spec.budget.max_cost
    if cost.unpriced:
        yield _unpriced(spec, cost)
        return
    if cost.per_hour <= 0 or hours is None:
        return
    bill = f"{cost.per_hour:.2f} {cost.currency} an hour x {hours:g} h = {cost.total:.2f}"
    of = f" (prices of {dated(cost.prices_of, SYSTEM.now())})" if cost.prices_of else ""
    if most is not None and cost.total > most:
        fits = most / cost.per_hour
        yield problem(
            "budget.max_cost",
            f"{bill} {cost.currency}{of}, which is more than max_cost = {most:g}",
            f"set budget.max_cost to {cost.total:.2f}, or budget.max_hours to {fits:.2g}, or "
            "fewer resources.workers",
        )
    else:
        yield passed("budget", f"at most {bill} {cost.currency}{of}")


def _unpriced(spec: ExperimentSpec, cost: Cost) -> Finding:
    """What to do about a machine whose price is not known."""
    kind = spec.backend.partition("/")[0]
    of = f"the price list of {cost.prices_of}" if cost.prices_of else "the price list"
    missing = f"{of} has no {', '.join(cost.unpriced)}"
    if spec.budget.no_cost_limit:
        return passed("budget", f"{missing}; budget.no_cost_limit: no limit of cost")
    fixes = [
        f"give its price: --set backends.{kind}.price_per_hour=PRICE"
        if "price_per_hour" in fields_of(kind)
        else "",
        f"drillyard prices refresh {kind}"
        if isinstance(load("backends", kind), RefreshesPrices)
        else "",
        "or set budget.no_cost_limit: true instead of budget.max_cost",
    ]
    return problem(
        "budget.max_cost",
        f"{missing}, so the limit of cost could not be kept",
        "; ".join(text for text in fixes if text),
    )


def one_currency(spec: ExperimentSpec, cost: Cost, paid: Iterable[Cost]) -> None:
    """Refuse a price that cannot be added to what earlier machines have cost.

    Args:
        spec: For ``budget.max_cost``.
        cost: The price of what would be rented.
        paid: The prices of everything that was rented before.

    Raises:
        UserError: They are in different currencies, and there is a limit for their sum.
    """
    others = {one.currency for one in paid if one.per_hour > 0} - {cost.currency}
    if others and cost.per_hour > 0 and spec.budget.max_cost is not None:
        raise UserError(
            f"earlier machines of this experiment cost {', '.join(sorted(others))}, and these "
            f"cost {cost.currency}: budget.max_cost cannot limit their sum",
            hint="use price lists in one currency, or write `no_cost_limit: true` instead of "
            "max_cost",
        )


def allowance(
    *,
    max_hours: float | None,
    max_cost: float | None,
    per_hour: float,
    used_s: float,
    used_cost: float,
) -> tuple[float, str] | None:
    """Returns how long a new lease may live, from the time and money that are left.

    Args:
        max_hours: ``budget.max_hours``.
        max_cost: ``budget.max_cost``.
        per_hour: Hourly price of the whole lease.
        used_s: Seconds that earlier leases of this command lived.
        used_cost: Cost of all earlier leases of the experiment.

    Returns:
        (seconds, never negative; the setting that they come from), or None without a limit.
    """
    limits = []
    if max_hours is not None:
        limits.append((max_hours * 3600.0 - used_s, f"budget.max_hours = {max_hours:g}"))
    if max_cost is not None and per_hour > 0:
        left_s = (max_cost - used_cost) / per_hour * 3600.0
        limits.append((left_s, f"budget.max_cost = {max_cost:g}"))
    if not limits:
        return None
    seconds, setting = min(limits)
    return max(0.0, seconds), setting
