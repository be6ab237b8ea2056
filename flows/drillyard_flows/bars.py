"""Moving bars on a terminal: the name and a bar on one line, the details on the next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, TextIO, cast

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drillyard.mailbox.status import Status
from drillyard.system.durations import duration
from drillyard_flows.looks import Look, Run, Whole
from drillyard_flows.progress import Lasting, facts

if TYPE_CHECKING:
    from rich.console import Console

MOST_BARS = 12
"""Most runs with a bar each; more share one bar."""
CELLS = (20, 40)
"""Shortest and longest bar, in characters. A terminal of 80 has room for the shortest beside any
name that is cut to what is left."""
_PERCENT = 5


class Bars:
    """Shows one moving bar for each run, and one for the whole where there are more runs.

    Args:
        console: The terminal.
        title: Label of the bar for the whole.
    """

    def __init__(self, console: Console, title: str = "") -> None:
        self.title = title
        self._console = console
        console.file = cast("IO[str]", Lasting(cast("TextIO", console.file)))
        self._look = Look(())
        self._waiting = ""
        self._since = time.monotonic()
        self._live = Live(
            console=console, get_renderable=self._drawn, refresh_per_second=4, transient=False
        )
        self._live.start()

    def wait(self, text: str) -> None:
        """Says what is waited for, with the time that it takes."""
        if text != self._waiting:
            self._waiting, self._since = text, time.monotonic()

    def update(self, look: Look) -> None:
        """Updates the bars."""
        self._look = look
        self.wait(look.waiting)

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Stops updating the bars."""
        self.wait("")
        self._live.stop()

    # -- drawing ------------------------------------------------------------------------------

    def _drawn(self) -> RenderableType:
        parts: list[RenderableType] = []
        runs, whole = self._look.runs, self._look.whole
        most = min(MOST_BARS, max(1, (self._console.height - 4) // 2))
        # Of a study, the runs are those of a few trials.
        study = whole is not None and whole.total != len(runs)
        if whole is not None and (study or len(runs) > most):
            done = _share(whole)
            parts += self._two_lines(self.title, done, whole.facts)
        with_bars = [run for run in runs if run.status is Status.RUNNING] if study else runs
        if study or len(runs) <= most:
            for run in with_bars[: most - study]:
                phase = run.phase.value if run.phase and not run.status.ended else ""
                parts += self._two_lines(f"{run.run} {phase}".rstrip(), _of(run), facts(run))
        if self._waiting:
            waited = duration(time.monotonic() - self._since)
            parts.append(_line(f"waiting for {self._waiting} ({waited})"))
        return Group(*parts)

    def _two_lines(self, label: str, share: float, details: str) -> Sequence[RenderableType]:
        width = self._console.width
        cells = min(CELLS[1], max(CELLS[0], width // 2 - _PERCENT))
        name = max(1, min(width - cells - _PERCENT - 2, 40))
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=name, no_wrap=True, overflow="ellipsis")
        table.add_column(width=cells)
        table.add_column(width=_PERCENT, justify="right", no_wrap=True)
        bar = ProgressBar(total=1.0, completed=share, width=cells)
        table.add_row(Text(label), bar, Text(f"{share:.0%}"))
        return [table, _line(f"  {details}")]


def _line(text: str) -> Text:
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")


def _share(whole: Whole) -> float:
    return min(1.0, whole.done / whole.total) if whole.total else 0.0


def _of(run: Run) -> float:
    """The bar of one run is that of its phase."""
    if run.status in (Status.SUCCEEDED, Status.PRUNED):
        return 1.0
    if run.board is None or run.board.phase is not run.phase:
        return 0.0
    return min(1.0, run.board.step / max(1, run.board.total))
