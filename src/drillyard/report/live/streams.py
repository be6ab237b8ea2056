"""The curves of the runs that are drawn, read as they grow."""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import ObjectMissing
from drillyard.metrics.reader import StreamReader
from drillyard.report.live.model import LiveRun
from drillyard.results.collect import EVALUATION_METRIC, TRAINING_METRIC
from drillyard.results.model import Point, RunCurves

MOST_CURVES = 12
"""Runs that are drawn: those at work first, then the newest."""
_METRICS = {"train": TRAINING_METRIC, "evaluation": EVALUATION_METRIC}


class LiveCurves:
    """Reads a run's streams while its heartbeat changes, and once more after its training.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._curves: dict[str, _Curve] = {}

    def read(self, runs: Sequence[LiveRun], warnings: list[str]) -> tuple[RunCurves, ...]:
        """The curves so far.

        Args:
            runs: Every run, in queue order.
            warnings: Gets a sentence for each curve that cannot be read.
        """
        chosen = drawn(runs)
        for gone in self._curves.keys() - {r.run for r in chosen}:
            del self._curves[gone]
        curves = []
        for run in chosen:
            curve = self._curves.setdefault(run.run, _Curve(self._mailbox, run.run))
            try:
                curve.follow(run)
            except (CorruptObject, ObjectMissing, ValueError, KeyError) as error:
                warnings.append(f"{run.run}: its learning curve cannot be read: {error}")
            points = curve.points
            if points["train"] or points["evaluation"]:
                pair = (tuple(points["train"]), tuple(points["evaluation"]))
                curves.append(RunCurves(run.run, run.seed, *pair))
        return tuple(curves)


def drawn(runs: Sequence[LiveRun]) -> list[LiveRun]:
    """The runs whose curves are drawn, in queue order."""
    begun = [(i, r) for i, r in enumerate(runs) if r.attempts]
    begun.sort(key=lambda entry: (entry[1].beat_age_s is None, -entry[0]))
    return [r for _, r in sorted(begun[:MOST_CURVES], key=lambda entry: entry[0])]


class _Curve:
    def __init__(self, mailbox: Mailbox, run: str) -> None:
        self._reader = StreamReader(mailbox, run, again=True)
        self._seen: tuple[object, ...] = ()
        self.points: dict[str, list[Point]] = {stream: [] for stream in _METRICS}

    def follow(self, run: LiveRun) -> None:
        """Read what is new, if anything can be."""
        board = run.board if run.board is not None and run.board.phase is Phase.TRAIN else None
        now = (run.attempts, board and board.beat, run.phase, run.status)
        if now == self._seen:
            return
        attempt = self._reader.attempt
        # After the training, the accepted attempt counts, which may be another one.
        if (board is None or board.attempt != attempt) and not self._reader.look():
            return
        if self._reader.attempt != attempt:
            self.points = {stream: [] for stream in _METRICS}
        for stream, metric in _METRICS.items():
            for line in self._reader.new(stream):
                value = line["metrics"].get(metric)
                if isinstance(value, int | float):
                    self.points[stream].append((int(line["step"]), float(value)))
        self._seen = now
