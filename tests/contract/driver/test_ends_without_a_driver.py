"""What fails at the end of a command leaves no driver and no stage at work."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.six_phases import drive
from drillyard.driver.stages import Stages
from drillyard.driver.view import NoView
from drillyard.errors import StoreUnavailable
from tests.helpers.tiny_backend import ThreadBackend, tiny


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
