"""What a lost or failed driver leaves, and a command with changed settings after it."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.six_phases import drive
from drillyard.driver.stages import Stages
from drillyard.driver.view import NoView
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.records import TicketRecord
from drillyard.mailbox.status import Cause
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, tiny

# -- What fails at the end of a command leaves no driver and no stage at work -----------------


class Broken(NoView):
    """A view with a defect."""

    def begin(self, driver: Any, bodies: Bodies) -> None:
        raise ZeroDivisionError("a defect of the view")


@pytest.mark.heavy
def test_a_defect_leaves_no_living_driver_in_this_process(folder, mailbox):
    """A notebook lives on: the experiment would have a driver until it is restarted."""
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    assert driver.open()
    with pytest.raises(ZeroDivisionError):
        drive(driver, view=Broken(), report=False)
    record = mailbox.driver()
    assert record is not None and record.ended_at is not None
    again = Driver(tiny(folder), mailbox, ThreadBackend())
    assert again.open()
    again.close("done")


def test_a_stage_that_cannot_be_asked_to_stop_keeps_no_other_from_it(monkeypatch):
    asked: list[str] = []

    class Stage:
        def __init__(self, name: str, error: Exception | None) -> None:
            self.name, self.error = name, error

        def stop(self, reason: str, drain: bool = False) -> None:
            asked.append(self.name)
            if self.error is not None:
                raise self.error

    stages = object.__new__(Stages)
    stages._reason = None
    drivers = [Stage("first", StoreUnavailable("no answer")), Stage("second", None)]
    monkeypatch.setattr(stages, "drivers", lambda: drivers)
    with pytest.raises(StoreUnavailable):
        stages.stop("on request")
    assert asked == ["first", "second"]


# -- A command with changed settings, after the machine at work was lost with its driver ------


TICKET = "t0001-s1.train"
SILENT_S = 0.2


@pytest.mark.heavy
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
