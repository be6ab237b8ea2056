"""Progress of a ticket: kept by the work, written to the board by a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal, Unpack, get_args

from drillyard.mailbox.records import Board, Claim, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.runs.workload import ProgressUpdate
from drillyard.system.clock import Clock

_WINDOW_S = 30.0
_Name = Literal[
    "step", "total", "episodes", "episode_return", "checkpoint_step", "message", "time_left_s"
]
_KNOWN: tuple[_Name, ...] = get_args(_Name)


class ProgressKeeper:
    """The last reported progress, and its rate.

    Args:
        ticket: The ticket.
        claim: Its claim.
        clock: For rates (monotonic) and stamps.
    """

    def __init__(self, ticket: TicketRecord, claim: Claim, clock: Clock) -> None:
        self._ticket = ticket
        self._claim = claim
        self._clock = clock
        self._lock = threading.Lock()
        self._values = ProgressUpdate()
        self._beat = 0
        self.words = 0
        """Number of reports."""
        self._points: deque[tuple[float, int]] = deque()

    def __call__(self, **values: Unpack[ProgressUpdate]) -> None:
        """Keep the given values; unknown names are ignored, None keeps what was there."""
        with self._lock:
            self.words += 1
            for name in _KNOWN:
                if values.get(name) is not None:
                    self._values[name] = values[name]

    @property
    def step(self) -> int:
        """The last reported step; 0 before the first report."""
        return int(self._values.get("step", 0))

    def board(self, status: Status = Status.RUNNING) -> Board:
        """The next board record."""
        now = self._clock.monotonic()
        with self._lock:
            values = self._values.copy()
            self._beat += 1
            beat = self._beat
        step, total = int(values.get("step", 0)), int(values.get("total", 0))
        # Before the first report, the earlier steps of a resumed training would count as new.
        rate = self._rate(now, step) if "step" in values else None
        eta_s = max(0, total - step) / rate if rate and total else None
        if (left_s := values.get("time_left_s")) is not None:  # the earlier end counts
            eta_s = left_s if eta_s is None else min(eta_s, left_s)
        return Board(
            run=self._ticket.run,
            phase=self._ticket.phase,
            attempt=self._claim.attempt,
            worker=self._claim.worker,
            status=status,
            step=step,
            total=total,
            episodes=int(values.get("episodes", 0)),
            episode_return=_finite(values.get("episode_return")),
            steps_per_s=rate,
            eta_s=eta_s,
            checkpoint_step=values.get("checkpoint_step"),
            message=str(values.get("message", ""))[:500],
            beat=beat,
            written_at=self._clock.now(),
        )

    def _rate(self, now: float, step: int) -> float | None:
        """Steps per second over the last half minute; None before two different points."""
        if self._points and step < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, step))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW_S:
            self._points.popleft()
        (first_time, first_step) = self._points[0]
        if step <= first_step or now <= first_time:
            return None
        return (step - first_step) / (now - first_time)


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None
