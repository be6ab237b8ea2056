"""Bars on a terminal: of a study, only those of the trials that are at work."""

from __future__ import annotations

import io

from rich.console import Console

from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard_flows.progress import Bars, Run


def shown(bars: Bars) -> list[str]:
    return [task.description.strip() for task in bars._progress.tasks]


def test_the_bars_of_trials_that_were_judged_make_room() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True), "study")
    try:
        first, second, third = (
            Run(f"t000{n}-s1", Phase.TRAIN, Status.RUNNING, None) for n in (1, 2, 3)
        )
        bars.update([first, second])
        bars.update([second, third])
        assert shown(bars) == ["t0002-s1 train", "t0003-s1 train"]
    finally:
        bars.close()
