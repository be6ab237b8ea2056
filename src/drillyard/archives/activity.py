"""Whether anything of an experiment may still be alive: a driver, a worker, a machine, a run."""

from __future__ import annotations

from collections.abc import Callable

from drillyard.errors import CorruptObject, UserError
from drillyard.leases.ledger import Ledger, local_intents
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.driver_lock import DELETING, living, process_alive
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import PHASES, WorkerRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.store import folders
from drillyard.mailbox.ticket_states import ticket_states

SILENT_S = 600.0
"""A worker or a run that was silent for so long, by the store's clock, is dead if its machine is
known to be gone."""
LEAVES_S = 60.0
"""Time that a worker gets that has said that it ends."""


def must_be_idle(mailbox: Mailbox, verb: str) -> None:
    """Refuse while something of an experiment may be alive.

    Args:
        mailbox: The experiment.
        verb: What is refused, for the message: ``delete``.

    Raises:
        UserError: Something is alive, or it cannot be known: all reasons are named.
        StoreUnavailable: The store cannot be read.
    """
    reasons = activity(mailbox)
    if reasons:
        raise UserError(
            f"cannot {verb} {mailbox.experiment!r} now: " + "; ".join(reasons),
            hint=f"stop it with {command('cancel', mailbox)}, end forgotten machines with "
            f"`drillyard reap`, then repeat {command(verb, mailbox)}",
        )


def activity(mailbox: Mailbox) -> list[str]:
    """What may be alive, in words; a record that cannot be read counts as alive.

    Args:
        mailbox: The experiment.
    """
    looks: tuple[Callable[[Mailbox], list[str]], ...] = (_driver, _leases, _workers, _runs)
    if mailbox.store.stat(mailbox.key(DELETING)) is not None:
        # All of it was looked at before that was written, and no driver starts since then. What
        # an interrupted deletion leaves of the records would be misread.
        looks = (_driver,)
    reasons: list[str] = []
    for look in looks:
        try:
            reasons += look(mailbox)
        except CorruptObject as error:
            reasons.append(f"it is not known whether it is alive: {error}")
    return reasons


def _driver(mailbox: Mailbox) -> list[str]:
    record = mailbox.driver()
    if record is None or not living(mailbox, record):
        return []
    return [f"its driver is running (process {record.pid} on {record.host})"]


def _leases(mailbox: Mailbox) -> list[str]:
    """Leases that no provider's listing has confirmed as gone."""
    entries = Ledger(mailbox).entries()
    problems = [
        f"machine {e.intent.order.lease_id} on {e.intent.backend} may be alive"
        for e in entries
        if e.unseen
    ]
    known = {e.intent.order.lease_id for e in entries}
    named = set(folders(mailbox.store, mailbox.key("leases/")))
    problems += [f"machine {lease} has no readable order" for lease in sorted(named - known)]
    problems += [
        f"machine {intent.order.lease_id} on {intent.backend} may be alive"
        for intent in local_intents()
        if intent.order.experiment == mailbox.experiment
        and intent.order.store_url.rstrip("/") == mailbox.store.url.rstrip("/")
        and intent.order.lease_id not in known
    ]
    return problems


def _workers(mailbox: Mailbox) -> list[str]:
    gone = {e.intent.order.lease_id for e in Ledger(mailbox).entries() if not e.unseen}
    return [
        f"worker {record.worker} may be alive"
        for record in mailbox.each_worker()
        if _working(mailbox, record, gone)
    ]


def _working(mailbox: Mailbox, record: WorkerRecord, gone: set[str]) -> bool:
    alive = process_alive(record)
    if alive is not None:
        return alive
    age = mailbox.age(f"workers/{record.worker}.json")
    if record.state in ("leaving", "failed"):
        return age is not None and age < LEAVES_S
    return record.lease not in gone or (age is not None and age < SILENT_S)


def _runs(mailbox: Mailbox) -> list[str]:
    """Runs that were heard of a short time ago, whoever works on them."""
    alive = []
    for state in ticket_states(mailbox).values():
        if state.status is not Status.RUNNING:
            continue
        run = state.ticket.run
        ages = [
            mailbox.age(f"board/{run}.json"),
            *(mailbox.age(f"claims/{ticket_id(run, p)}.{state.attempt}.json") for p in PHASES),
        ]
        if any(age is not None and age < SILENT_S for age in ages):
            alive.append(f"run {run} is running")
    return list(dict.fromkeys(alive))
