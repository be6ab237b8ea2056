"""Live progress: one bar for each run on a terminal, one line for each every 10 s elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drillyard.mailbox.records import PHASES, Board, Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import by_run, worst

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from drillyard.driver.driver import Driver

LINE_EVERY_S = 10.0
MOST_BARS = 12
"""Most runs with a bar each; more share one bar."""


@dataclass(frozen=True)
class Run:
    """The progress of a run."""

    run: str
    phase: Phase | None
    status: Status
    board: Board | None


class Display(Protocol):
    """Shows the progress of runs until it is closed."""

    def update(self, runs: Sequence[Run]) -> None:
        """Shows the progress of the runs; called a few times a second."""

    def say(self, text: str) -> None:
        """Prints a line above the moving part."""

    def close(self) -> None:
        """Stops; called once."""


def open_display(*, quiet: bool, title: str) -> Display:
    """Returns the display that fits the output: terminal, file or program.

    Args:
        quiet: Show nothing, because a program reads the output.
        title: The experiment's name.
    """
    if quiet:
        return Silent()
    from rich.console import Console

    console = Console(stderr=True)
    return Bars(console, title) if console.is_terminal else Lines()


class Silent:
    """Shows no progress; prints messages to standard error."""

    def update(self, runs: Sequence[Run]) -> None:
        """Shows nothing."""

    def say(self, text: str) -> None:
        """Prints a line to standard error."""
        sys.stderr.write(f"{text}\n")

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
    if board.eta_s is not None:
        parts.append(f"{clock(board.eta_s)} left")
    return ", ".join(parts)


def views(driver: Driver) -> list[Run]:
    """Returns the progress of every run that has not been judged."""
    runs = by_run(driver.at_work())
    if driver.study is not None:
        # The study prints a line for each trial that ended, so only open ones are shown.
        runs = {
            r: tickets for r, tickets in runs.items() if not all(t.status.ended for t in tickets)
        }
    progress = []
    for run, tickets in runs.items():
        tickets.sort(key=lambda t: PHASES.index(t.ticket.phase))
        current = next((t for t in tickets if not t.status.ended), tickets[-1])
        running = current.status is Status.RUNNING
        board = driver.board(run) if running else None
        status = Status.RUNNING if running else worst(tickets)
        progress.append(Run(run, current.ticket.phase, status, board))
    return progress


def clock(seconds: float) -> str:
    """Formats seconds as ``m:ss`` or ``h:mm:ss``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class Lines:
    """Prints a line for each run every 10 s, and whenever its phase or state changes."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self._every_s = every_s
        self._seen: dict[str, tuple[Phase | None, Status]] = {}
        self._due = time.monotonic() + every_s

    def update(self, runs: Sequence[Run]) -> None:
        """Prints the changes, and every 10 s all active runs."""
        now = time.monotonic()
        due = now >= self._due
        if due:
            self._due = now + self._every_s
        for run in runs:
            state = (run.phase, run.status)
            changed = self._seen.get(run.run, (None, Status.PENDING)) != state
            if changed or (due and run.status is Status.RUNNING):
                self._seen[run.run] = state
                name = f"{run.phase.value}: " if run.phase and not run.status.ended else ""
                self.say(f"{run.run} {name}{facts(run)}")

    def say(self, text: str) -> None:
        """Prints a line."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Does nothing."""


class Bars:
    """Shows one moving bar for each run.

    Args:
        console: The terminal.
        title: Label of the common bar, used if there are too many runs.
    """

    def __init__(self, console: Console, title: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._title = title
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[facts]}"),
            console=console,
            refresh_per_second=4,
        )
        self._bars: dict[str, TaskID] = {}
        self._progress.start()

    def update(self, runs: Sequence[Run]) -> None:
        """Updates the bars."""
        if len(runs) > MOST_BARS:
            ended = sum(run.status.ended for run in runs)
            active = sum(run.status is Status.RUNNING for run in runs)
            self._move(
                self._title, ended, len(runs), f"{ended:,}/{len(runs):,} runs, {active} running"
            )
            return
        for judged in self._bars.keys() - {run.run for run in runs}:
            self._progress.remove_task(self._bars.pop(judged))
        for run in runs:
            done, total = 0, 1
            if run.status in (Status.SUCCEEDED, Status.PRUNED):
                done, total = 1, 1
            elif run.board is not None and run.board.phase is run.phase:
                done, total = run.board.step, max(1, run.board.total)
            phase = run.phase.value if run.phase and not run.status.ended else ""
            self._move(run.run, done, total, facts(run), f"{run.run} {phase}".rstrip())

    def _move(self, key: str, done: int, total: int, facts: str, label: str | None = None) -> None:
        label = (label or key).ljust(20)
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(label, total=total, facts=facts)
        self._progress.update(
            self._bars[key], completed=done, total=total, description=label, facts=facts
        )

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Stops updating the bars."""
        self._progress.stop()
