"""Progress in a notebook: one line that updates itself while ``drillyard.run`` works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.results import formatting
from drillyard.system.clock import SYSTEM, Clock

EVERY_S = 1.0
SHOWN = 4
"""Runs on the line; of others it has the number."""


class Handle(Protocol):
    """What IPython gives for something that is displayed."""

    def update(self, shown: object) -> None:
        """Show something else in the same place."""


def in_notebook() -> bool:
    """True in a Jupyter kernel; a terminal's IPython has no place that can be updated."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Line:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _display(text: str) -> Handle:
    from IPython.display import display

    handle: Handle = display(_Line(text), display_id=True)
    return handle


class ProgressLine:
    """One line about the runs of an experiment.

    Args:
        mailbox: The experiment.
        states: Gives the state of each ticket.
        display: Shows the first text, and gives what shows the others.
        clock: For the time between two looks.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        states: Callable[[], Mapping[str, TicketState]],
        display: Callable[[str], Handle] = _display,
        clock: Clock = SYSTEM,
    ) -> None:
        self._mailbox = mailbox
        self._states = states
        self._display = display
        self._clock = clock
        self._handle: Handle | None = None
        self._shown = ""
        self._said = "starting"
        self._next = 0.0

    def say(self, text: str) -> None:
        """Show a sentence about a step until a run has begun."""
        self._said = text
        self.update(now=True)

    def update(self, *, now: bool = False) -> None:
        """Look at the runs, at most once in a second; a store that is away changes nothing.

        Args:
            now: Look in any case.
        """
        if not now and self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + max(EVERY_S, 5 * pace(self._mailbox.store))
        try:
            text = self._text()
        except DrillyardError:
            return
        if text == self._shown:
            return
        self._shown = text
        if self._handle is None:
            self._handle = self._display(text)
        else:
            self._handle.update(_Line(text))

    def _text(self) -> str:
        states = list(self._states().values())
        runs = dict.fromkeys(s.ticket.run for s in states)
        ended = sum(all(s.status.ended for s in states if s.ticket.run == run) for run in runs)
        running = dict.fromkeys(s.ticket.run for s in states if s.status is Status.RUNNING)
        parts = [text for run in list(running)[:SHOWN] if (text := self._run(run))]
        if len(running) > SHOWN:
            parts.append(f"{len(running) - SHOWN} more")
        head = f"{self._mailbox.experiment}: {ended} of {formatting.plural(len(runs), 'run')} done"
        return "; ".join([head, *(parts or [self._said])])

    def _run(self, run: str) -> str:
        board = self._mailbox.board(run)
        if board is None:
            return ""
        share = f" {board.step / board.total:.0%}" if board.total else ""
        left = f", {formatting.duration(board.eta_s)} left" if board.eta_s else ""
        return f"{run} {board.phase.value}{share}{left}"
