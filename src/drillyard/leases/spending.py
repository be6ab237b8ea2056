"""What machines have cost, as one interval for each lease of the ledger.

An interval begins when the intent was written, before anything was rented, and ends when the
provider's own listing was empty. So the sum is never less than the real use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drillyard.documents.json_types import as_number, as_object
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import ExperimentRecord


@dataclass(frozen=True)
class Interval:
    """Machines that were rented together.

    Attributes:
        experiment: Its name.
        lease: Id.
        backend: The backend.
        machines: Number of machines.
        began_at: Epoch seconds at which the intent was written.
        ended_at: Epoch seconds at which they were gone; None: they may be running.
        seconds: Length so far.
        per_hour: Price of all machines for an hour.
        cost: Cost so far.
        currency: Currency of price and cost.
        spot: True for the price of preemptible machines.
        prices_of: Date of the price list.
        limit_at: Epoch seconds at which the machines end themselves; None: no limit.
        confirmed: True if the provider's listing showed nothing of them.
        reason: Why they ended, as text.
    """

    experiment: str
    lease: str
    backend: str
    machines: int
    began_at: float
    ended_at: float | None
    seconds: float
    per_hour: float
    cost: float
    currency: str
    spot: bool
    prices_of: str
    limit_at: float | None
    confirmed: bool
    reason: str


@dataclass(frozen=True)
class Spending:
    """The intervals of one experiment and their sum.

    Attributes:
        experiment: Its name.
        intervals: Oldest first.
        max_cost: ``budget.max_cost``, or None.
    """

    experiment: str
    intervals: tuple[Interval, ...]
    max_cost: float | None

    @property
    def total(self) -> float:
        """Cost of all intervals, in the currency of the newest."""
        return sum(i.cost for i in self.intervals)

    @property
    def currency(self) -> str:
        """Currency of the newest interval."""
        return self.intervals[-1].currency if self.intervals else "USD"

    @property
    def left(self) -> float | None:
        """The rest of ``budget.max_cost``; None without a limit."""
        return None if self.max_cost is None else max(0.0, self.max_cost - self.total)


def spending(
    mailbox: Mailbox, ledger: Ledger | None = None, record: ExperimentRecord | None = None
) -> Spending:
    """What the machines of an experiment have cost so far.

    Args:
        mailbox: The experiment.
        ledger: Kept by a caller that asks again and again: it reads only what is new.
        record: The experiment's record, where the caller has it.

    Raises:
        CorruptObject: The ledger cannot be read.
    """
    budget = as_object((record or mailbox.experiment_record()).spec.get("budget"))
    limit = as_number(budget.get("max_cost"))
    intervals = tuple(_intervals(mailbox, ledger or Ledger(mailbox)))
    return Spending(mailbox.experiment, intervals, limit)


def so_far(mailbox: Mailbox) -> str:
    """The cost of all machines of an experiment so far, as a short text."""
    return text_of(spending(mailbox))


def text_of(found: Spending) -> str:
    """The cost of all machines as a short text."""
    if not any(interval.per_hour for interval in found.intervals):
        return "no cost so far (your own machines)"
    return f"cost so far {found.total:.2f} {found.currency}"


def _intervals(mailbox: Mailbox, ledger: Ledger) -> Iterator[Interval]:
    now = mailbox.store.now()
    for entry in ledger.entries():
        cost, gone, order = entry.intent.cost, entry.gone, entry.lease.order
        began = entry.intent.written_at
        yield Interval(
            experiment=mailbox.experiment,
            lease=order.lease_id,
            backend=entry.intent.backend,
            machines=order.all_workers,
            began_at=began,
            ended_at=None if gone is None else began + gone.lived_s,
            seconds=entry.lived_s(now),
            per_hour=cost.per_hour,
            cost=gone.cost if gone is not None else entry.spent(now),
            currency=cost.currency,
            spot=cost.spot,
            prices_of=cost.prices_of,
            limit_at=order.deadline,
            confirmed=gone is not None and gone.confirmed,
            reason=gone.reason if gone is not None else "",
        )
