"""A terminal or a pipe that is gone ends what is shown, and not the work."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.in_thread import InThread
from drillyard.driver.outcome import Kind, Outcome
from drillyard_flows.bars import Bars
from drillyard_flows.looks import Look
from drillyard_flows.progress import Lines, Silent, drawn


class Gone:
    """A stream whose reader is gone."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError("the reader is gone")

    def flush(self) -> None:
        raise BrokenPipeError("the reader is gone")

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("display", [Lines(), Silent()], ids=["lines", "silent"])
def test_a_command_whose_output_is_gone_drives_to_the_end(display, monkeypatch):
    shown = threading.Event()

    def look() -> Look:
        shown.set()
        return Look([], waiting="machines")

    def drive() -> Outcome:
        shown.wait(30.0)
        display.say("lease x is gone before the work was done: renting another")
        return Outcome(Kind.SUCCEEDED)

    monkeypatch.setattr(sys, "stderr", Gone())
    driver: Any = SimpleNamespace(mailbox=None)
    work = InThread(drive, driver, say=display.say, leave=lambda: None)
    assert work.run(drawn(display, look)) == Outcome(Kind.SUCCEEDED)


def test_bars_on_a_terminal_that_hung_up_raise_nothing():
    from rich.console import Console

    class HungUp(Gone):
        hung_up = False

        def write(self, text: str) -> int:
            if self.hung_up:
                raise OSError(5, "Input/output error")
            return len(text)

        def flush(self) -> None:
            self.write("")

    stream: Any = HungUp()
    bars = Bars(Console(file=stream, force_terminal=True, width=80, height=24))
    stream.hung_up = True
    bars.say("lease x is gone before the work was done: renting another")
    bars.update(Look([], waiting="machines"))
    bars.close()
