"""Trainings that take turns: a `drillyard run`, or the plain script, and their steps/s."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Protocol

from drillyard.mailbox import Mailbox, open_store
from drillyard.metrics.streams import read_stream

from . import common
from .turns import Side, alternate

RUN = "t0001-s1"
Marks = list[tuple[int, float]]
"""Environment steps, and when they were done, in epoch seconds."""


class TrainingSide(Protocol):
    """A side that trains."""

    side: Side

    def step(self) -> int:
        """Steps done so far; 0 before it trains."""

    def marks(self) -> Marks:
        """What was done when."""


class RunSide:
    """A `drillyard run` of PPO on the reactor, without evaluations while training.

    Args:
        folder: Where.
        name: Of the experiment.
        steps: Its budget.
        mlflow: Of its `tracking:`.
        *options: Of the command.
    """

    def __init__(
        self, folder: Path, name: str, steps: int, mlflow: str = "auto", *options: str
    ) -> None:
        text = common.EXPERIMENT.format(name=name, steps=steps, every=1, seeds=[1])
        text = text.replace("every: {steps: 1, episodes: 10}", "every: null")
        text = text.replace("mlflow: auto", f"mlflow: {mlflow}")
        (folder / f"{name}.yaml").write_text(text)
        # A server or a database that both sides use would be stopped in the other one's turn.
        store = folder / f"store-{name}"
        env = {"PREFECT_HOME": str(folder / f"prefect-{mlflow == 'null'}")}
        command = [str(common.BIN / "drillyard"), "run", f"{name}.yaml", "--store", str(store)]
        self.side = Side([*command, *options], folder, env)
        self.box = Mailbox(open_store(str(store)), name)

    def step(self) -> int:
        """As its board says."""
        try:
            return int(json.loads(self.box.store.get(self.box.key(f"board/{RUN}.json")))["step"])
        except Exception:
            return 0

    def marks(self) -> Marks:
        """The points of its curve."""
        lines = read_stream(self.box, RUN, "timing")
        return [(int(line["step"]), float(line["time"])) for line in lines]


class PlainSide:
    """The plain script.

    Args:
        folder: Where.
        steps: Its budget.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.side = Side([sys.executable, str(common.PLAIN), str(steps), "0", "1"], folder)

    def step(self) -> int:
        """At the last rollout boundary."""
        return max((step for step, _ in self.marks()), default=0)

    def marks(self) -> Marks:
        """Its rollout boundaries."""
        found = re.findall(r"^(\d+) (\d+\.\d+)$", self.side.output.read_text(), re.M)
        return [(int(step), float(when)) for step, when in found]


def in_turns(first: TrainingSide, second: TrainingSide, warm: int) -> tuple[float, float]:
    """Steps/s of two trainings, each over its own turns from a step on."""
    sides = (first, second)
    try:
        for one in sides:
            one.side.start()
        while min(one.step() for one in sides) < warm and not any(o.side.over() for o in sides):
            # Whoever starts up faster waits for the other one, so that both have most to do.
            for one, other in (sides, sides[::-1]):
                one.side.hold(one.step() >= warm > other.step())
            time.sleep(0.1)
        alternate(first.side, second.side)
        for one in sides:
            one.side.finish()
    finally:
        for one in sides:
            one.side.end()
    return _rate(first, warm), _rate(second, warm)


def _rate(one: TrainingSide, warm: int) -> float:
    begin, end = one.side.turns[0][0], one.side.turns[-1][1]
    inside = [mark for mark in one.marks() if mark[0] >= warm and begin <= mark[1] <= end]
    (first, since), (last, until) = inside[0], inside[-1]
    return (last - first) / one.side.own_time(since, until)


def end_on_sigterm() -> None:
    """Processes that are stopped must not stay when this one is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
