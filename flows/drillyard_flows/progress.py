"""Live progress: bars on a terminal, one line for each run every 10 s elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from drillyard.driver.in_thread import Beside, Ended
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.results.time_left import worth_showing
from drillyard.system.durations import duration
from drillyard_flows.looks import Look, Run

DRAW_EVERY_S = 0.25
LINE_EVERY_S = 10.0
AGAIN_S = 60.0
"""A line that says nothing new is printed again after so many seconds."""


class Display(Protocol):
    """Shows the progress of runs until it is closed.

    Attributes:
        title: The experiment's name, once it is known.
    """

    title: str

    def wait(self, text: str) -> None:
        """Says what is waited for before there are runs."""

    def update(self, look: Look) -> None:
        """Shows the progress of the runs; called a few times a second."""

    def say(self, text: str) -> None:
        """Prints a line above the moving part."""

    def close(self) -> None:
        """Stops; called once."""


def drawn(display: Display, look: Callable[[], Look]) -> Beside:
    """Returns what the thread of a command does while another one drives: it draws.

    Args:
        display: Where to draw.
        look: What there is to draw now.
    """

    def draw(ended: Ended) -> None:
        display.update(look())
        while not ended(DRAW_EVERY_S):
            display.update(look())
        display.update(look())

    return draw


class Lasting:
    """A stream that is written to as long as its reader is there: work goes on without it.

    Args:
        stream: Standard error: a terminal that may hang up, or a pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _print(text: str) -> None:
    stream = Lasting(sys.stderr)
    stream.write(f"{text}\n")
    stream.flush()


class Silent:
    """Shows no progress; prints messages to standard error."""

    title = ""

    def wait(self, text: str) -> None:
        """Shows nothing."""

    def update(self, look: Look) -> None:
        """Shows nothing."""

    def say(self, text: str) -> None:
        """Prints a line to standard error."""
        _print(text)

    def close(self) -> None:
        """Does nothing."""


def facts(run: Run) -> str:
    """Returns steps, speed, return and remaining time of a run as text."""
    board = run.board
    if board is None or run.phase is None or board.phase is not run.phase:
        return run.status.value.lower()
    parts = [f"{board.step:,}/{board.total:,}" if board.total else "running"]
    if board.steps_per_s is not None and run.phase is Phase.TRAIN:
        parts.append(f"{board.steps_per_s:,.0f} steps/s")
    if board.episode_return is not None:
        parts.append(f"return {board.episode_return:.4g}")
    if worth_showing(board.eta_s):
        parts.append(f"{duration(board.eta_s)} left")
    return ", ".join(parts)


class Lines:
    """Prints a line for each run every 10 s, and whenever its phase or state changes."""

    title = ""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Phase | None, Status]] = {}
        self._waited: set[str] = set()
        self._due = time.monotonic() + LINE_EVERY_S
        self._said: dict[str, tuple[str, float]] = {}
        """Run, or the whole -> its last line, and when it was printed."""

    def wait(self, text: str) -> None:
        """Prints what is waited for, once each."""
        if text and text not in self._waited:
            self._waited.add(text)
            self.say(f"waiting for {text}")

    def update(self, look: Look) -> None:
        """Prints the changes, and every 10 s all active runs."""
        self.wait(look.waiting)
        now = time.monotonic()
        due = now >= self._due
        if due:
            self._due = now + LINE_EVERY_S
        for run in look.runs:
            state = (run.phase, run.status)
            changed = self._seen.get(run.run, (None, Status.PENDING)) != state
            if changed or (due and run.status is Status.RUNNING):
                self._seen[run.run] = state
                name = f"{run.phase.value}: " if run.phase and not run.status.ended else ""
                self._once(run.run, f"{run.run} {name}{facts(run)}", now)
        if due and self.title and look.whole is not None and look.whole.total != len(look.runs):
            self._once(self.title, f"{self.title}: {look.whole.facts}", now)

    def _once(self, what: str, line: str, now: float) -> None:
        """Prints a line, but the same one again only after a while, as a sign of life."""
        last, at = self._said.get(what, ("", 0.0))
        if line != last or now - at >= AGAIN_S:
            self._said[what] = line, now
            self.say(line)

    def say(self, text: str) -> None:
        """Prints a line."""
        _print(text)

    def close(self) -> None:
        """Does nothing."""
