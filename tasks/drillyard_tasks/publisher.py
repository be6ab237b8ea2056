"""Running tickets on Prefect's pages: what workers print, an artifact a run, a line every 10 s.

One thread for all tasks of a flow run. Nothing here may fail a task: what cannot be published is
left out, because Prefect's pages decide nothing.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from drillyard.driver.driver import Driver
from drillyard.leases.spending import so_far
from drillyard.mailbox.records import Board, Phase
from drillyard.runs.logs import Tail
from drillyard.system.redaction import redact

INTERVAL_S = 10.0
LOGS_EVERY_S = 3.0
"""With a second in the worker and half a one in Prefect's log handler, a line is there within
five. A look that finds lines is a request, which costs both sides some 20 ms of CPU time.
"""
MOST_LINES = 500
"""Of one run at a time; who prints more than that reads `drillyard logs`."""
log = logging.getLogger(__name__)

Logger = logging.Logger | logging.LoggerAdapter[Any]


def artifact_key(*parts: str) -> str:
    """A key that Prefect takes: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


_OWN = re.compile(
    r"[\d-]+ [\d:,]+Z (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: (?P<said>.*)"
)


def levelled(text: str) -> tuple[int, str]:
    """A line of a run's log as level and text.

    What a worker itself says begins with time and level, which Prefect's page shows beside each
    line anyway.

    Args:
        text: As it stands in the log.
    """
    own = _OWN.fullmatch(text)
    if own is None:
        return logging.INFO, text
    return logging.getLevelNamesMapping()[own["level"]], own["said"]


UNITS = {Phase.TRAIN: "steps", Phase.EVALUATE: "episodes", Phase.STORE: "files"}
"""What a board counts in each phase."""


def line(board: Board) -> str:
    """A run's progress in one line."""
    text = f"{board.run} {board.phase.value}: "
    if board.total:
        text += f"{board.step:,} of {board.total:,} {UNITS[board.phase]}"
    else:
        text += "at work"
    if board.steps_per_s is not None and board.phase is Phase.TRAIN:
        text += f", {board.steps_per_s:,.0f} steps/s"
    if board.episode_return is not None:
        text += f", return {board.episode_return:.4g}"
    if board.eta_s is not None:
        text += f", {board.eta_s:.0f} s left"
    return text + (f" ({board.message})" if board.message else "")


@dataclass
class _Watched:
    driver: Driver
    experiment: str
    run: str
    phase: str
    log: Logger
    tail: Tail
    artifact: UUID | None = None
    said: tuple[int, int] | None = None
    over: bool = False
    """The result stands on the page; a look that began before must not write over it."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Publisher:
    """Publishes the boards of the tickets that tasks wait for.

    Args:
        interval_s: Seconds between two publications of progress.
        logs_every_s: Seconds between two looks for new lines.
    """

    def __init__(self, interval_s: float = INTERVAL_S, logs_every_s: float = LOGS_EVERY_S) -> None:
        self._interval_s = interval_s
        self._logs_every_s = logs_every_s
        self._tails: dict[tuple[str, str, str], Tail] = {}
        """Kept over the phases of a run, so that each line is sent once."""
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def publishing(
        self, driver: Driver, experiment: str, run: str, ticket: str, logger: Logger
    ) -> Iterator[None]:
        """Publish a ticket's progress while the block runs; the end is published too.

        Args:
            driver: Where boards come from.
            experiment: For the artifact's key.
            run: The run.
            ticket: The ticket; its last part is the phase.
            logger: The task run's logger.
        """
        key = (driver.mailbox.store.url, experiment, run)
        phase = ticket.rsplit(".", 1)[-1]
        with self._lock:
            tail = self._tails.setdefault(key, Tail(driver.mailbox, run))
        watched = _Watched(driver, experiment, run, phase, logger, tail)
        if watched.phase == "train":
            self._quietly(self._create, watched)
        with self._lock:
            self._watched[ticket] = watched
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="prefect-progress", daemon=True
                )
                self._thread.start()
        done = False
        try:
            yield
            done = True
        finally:
            with self._lock:
                self._watched.pop(ticket, None)
                if phase == Phase.STORE.value:
                    self._tails.pop(key, None)
            self._quietly(self._send_logs, watched)
            self._quietly(self._publish, watched, done)

    def _loop(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._wake.wait(self._logs_every_s):
            with self._lock:
                watched = list(self._watched.values())
                if not watched:
                    self._thread = None
                    return
            for one in watched:
                self._quietly(self._send_logs, one)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._interval_s
            for one in watched:
                self._quietly(self._publish, one, False)

    @staticmethod
    def _quietly(action: Any, *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:
            log.debug("not published: %s", error)

    @staticmethod
    def _send_logs(one: _Watched) -> None:
        with one.lock:  # the end of a task and the thread may both be at it
            lines = list(one.tail.new())
            for text in lines[:MOST_LINES]:
                level, said = levelled(text)
                one.log.log(level, "%s | %s", one.run, redact(said))
        if len(lines) > MOST_LINES:
            one.log.info(
                "%s | and %d lines more: drillyard logs %s/%s",
                one.run,
                len(lines) - MOST_LINES,
                one.experiment,
                one.run,
            )

    @staticmethod
    def _create(one: _Watched) -> None:
        from prefect.artifacts import create_progress_artifact

        created = create_progress_artifact(
            0.0,
            key=artifact_key("progress", one.experiment, one.run),
            description=f"Training of {one.run} ({one.experiment})",
        )
        one.artifact = cast(UUID, created)  # a coroutine only inside an event loop

    @staticmethod
    def _publish(one: _Watched, done: bool) -> None:
        with one.lock:
            if one.over:
                return
            one.over = done
            Publisher._show(one)

    @staticmethod
    def _show(one: _Watched) -> None:
        from prefect.artifacts import update_progress_artifact

        if one.over:  # the task says the result itself; a board would only be older
            if one.artifact is not None:
                update_progress_artifact(one.artifact, 100.0, _trained(one))
            return
        board = one.driver.board(one.run)
        if board is None or board.phase.value != one.phase:
            return
        if one.said != (board.attempt, board.step):
            one.said = (board.attempt, board.step)
            one.log.info(line(board))
        if one.artifact is not None:
            percent = round(100.0 * board.step / max(1, board.total), 1)
            words = f"{line(board)}; {so_far(one.driver.mailbox)}"
            update_progress_artifact(one.artifact, min(100.0, percent), words)


def _trained(one: _Watched) -> str:
    accepted = one.driver.mailbox.accepted(one.run, Phase.TRAIN)
    steps = accepted.summary.get("steps") if accepted is not None else None
    return f"{one.run}: trained" + (f", {steps:,} steps" if isinstance(steps, int) else "")
