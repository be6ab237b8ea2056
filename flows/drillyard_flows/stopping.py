"""Stops an experiment from any process, without Prefect and without its driver."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from drillyard.leases.ledger import Ledger
from drillyard.leases.manager import LeaseManager
from drillyard.leases.places import Places
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, living, process_alive
from drillyard.mailbox.records import Cancel
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.stages import stage_mailboxes

FLUSH_S = 30.0
"""Seconds for running tickets to notice the stop and to write a checkpoint."""
CONFIRM_S = 120.0
SILENT_S = STALE_S + 5.0
"""Seconds after which a driver that was killed elsewhere no longer counts as alive."""


def order_stop(mailbox: Mailbox, *, reason: str, by: str, drain: bool = False) -> None:
    """Asks every worker to stop. The first order stays, but a drain becomes a stop.

    Args:
        mailbox: The experiment.
        reason: Why it is stopped.
        by: Name of the user or program that stops it.
        drain: Let running tickets finish and start no new ones.
    """
    order = Cancel(reason=reason, by=by, drain=drain, written_at=time.time())
    for box in _parts(mailbox):
        if not box.create("control/cancel.json", order):
            before = box.cancelled()
            if before is not None and before.drain and not drain:
                box.write("control/cancel.json", order)


def _parts(mailbox: Mailbox) -> list[Mailbox]:
    """Returns an experiment and its stages that have begun."""
    begun = [
        box
        for box in stage_mailboxes(mailbox).values()
        if box.store.stat(box.key("experiment.json")) is not None
    ]
    return [mailbox, *begun]


def undecided(mailbox: Mailbox) -> list[str]:
    """Returns the tickets that have not ended; those of stages with the name of the stage."""
    return [
        ticket if box is mailbox else f"{box.experiment}/{ticket}"
        for box in _parts(mailbox)
        for ticket, state in ticket_states(box).items()
        if not state.status.ended
    ]


def driven(mailbox: Mailbox) -> bool:
    """Returns True while a live driver exists, which will tear down."""
    return any(living(box, driver) for box in _parts(mailbox) for driver in box.drivers()[-1:])


def driven_elsewhere(mailbox: Mailbox) -> bool:
    """Returns True while the live driver is another process than this one."""
    return any(
        living(box, driver) and not (driver.pid == os.getpid() and process_alive(driver))
        for box in _parts(mailbox)
        for driver in box.drivers()[-1:]
    )


def wait_until(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.3) -> bool:
    """Waits for a condition; returns whether it became true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def end_leases(mailbox: Mailbox, *, only_decided: bool = False) -> list[str]:
    """Tears down every lease of the ledger, until its provider no longer lists it.

    Also those that were written off: machines may appear after a "no room" or a lost answer.

    Args:
        mailbox: The experiment.
        only_decided: Do nothing while tickets are open, or while another process drives.

    Returns:
        Ids of the leases that were torn down.

    Raises:
        TeardownUnconfirmed: The provider still lists one of them.
    """
    if only_decided:
        if undecided(mailbox):
            return []
        # A study has no open tickets before its next trial, and its driver has the machines.
        if not wait_until(lambda: not driven_elsewhere(mailbox), SILENT_S) or undecided(mailbox):
            return []
    if not only_decided:
        wait_until(lambda: not any(_running(box) for box in _parts(mailbox)), FLUSH_S)
    return [lease for box in _parts(mailbox) for lease in _end_leases(box)]


def _end_leases(mailbox: Mailbox) -> list[str]:
    ledger = Ledger(mailbox)
    before = [entry for entry in ledger.entries() if entry.unseen]
    if not before:
        return []
    LeaseManager(mailbox, Places.of_leases(e.lease for e in before), ledger).end_all(
        CONFIRM_S, lambda: None
    )
    return [entry.lease.lease_id for entry in before]


def _running(mailbox: Mailbox) -> bool:
    return any(s.status is Status.RUNNING for s in ticket_states(mailbox).values())
