"""A command with changed settings, after the machine at work was lost with its driver."""

from __future__ import annotations

import pytest

from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import TicketRecord
from drillyard.mailbox.status import Cause
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, tiny

pytestmark = pytest.mark.heavy
TICKET = "t0001-s1.train"
SILENT_S = 0.2


def test_it_waits_until_the_loss_is_certain_and_refuses_nothing(folder, mailbox, monkeypatch):
    """Its heartbeat is old at the first look, as it is after a jump of the clock."""
    monkeypatch.setattr("drillyard.driver.reconcile.WATCH_S", 0.05)

    def dies(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        worker.die()
        return ""

    first = Driver(tiny(folder), mailbox, ThreadBackend(dies))
    first._closer._silent_s = 1e9  # only the second one closes it, however slow this machine is
    first.open()
    lease = first.provision()
    ThreadBackend.alive[lease.lease_id][1].join(PATIENCE_S)
    first.close("left")
    until(lambda: _silent_s(mailbox) > SILENT_S, what="a heartbeat that is old")

    said: list[str] = []
    changed = tiny(folder, evaluate={"episodes": 3})
    second = Driver(changed, mailbox, ThreadBackend(), on_line=said.append)
    second._closer._silent_s = SILENT_S
    assert {ticket.run for ticket in second.open()} == {"t0001-s1", "t0001-s2"}
    assert "waiting to see whether workers with old heartbeats still work" in said
    ending = mailbox.ending(TICKET, 1)
    assert ending is not None and ending.cause is Cause.INFRASTRUCTURE
    second.teardown()
    second.close("done")


def _silent_s(mailbox: Mailbox) -> float:
    """Since the last heartbeat, by the clock of the store."""
    seen: WorkerCache = {}
    mailbox.workers(seen)
    return mailbox.store.now() - max(info.updated_at for info, _ in seen.values())
