"""Shows running tickets on Prefect's pages: workers' output, progress artifacts, a line per 10 s.

One thread serves all tasks of a flow run. Nothing here may fail a task: if publishing fails, it is
skipped, because Prefect's pages decide nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, ParamSpec, cast
from uuid import UUID

from drillyard.documents.json_types import JsonObject
from drillyard.driver.driver import Driver
from drillyard.errors import WorkerLost
from drillyard.leases.spending import so_far
from drillyard.mailbox.records import Board, Phase
from drillyard.runs.logs import Tail
from drillyard.system.durations import duration
from drillyard.system.redaction import redact
from drillyard.system.utilisation import in_words

INTERVAL_S = 10.0
LOGS_EVERY_S = 3.0
"""With one second in the worker and half a second in Prefect's log handler, a line arrives within
five. A check that finds lines sends a request, which costs both sides about 20 ms of CPU time.
"""
SHORT_S = 1.0
"""A training of a study that takes less has no artifact."""
MOST_LINES = 500
"""Most lines of one run at a time; `drillyard logs` shows all of them."""
log = logging.getLogger(__name__)
P = ParamSpec("P")

Logger = logging.Logger | logging.LoggerAdapter[Any]


def artifact_key(*parts: str) -> str:
    """Returns a key that Prefect accepts: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


_OWN = re.compile(
    r"[\d-]+ [\d:,]+Z (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: (?P<text>.*)"
)


def levelled(text: str) -> tuple[int, str]:
    """Splits a line of a run's log into level and text.

    Lines of the worker begin with time and level, which Prefect's page shows beside each line.

    Args:
        text: The line in the log.
    """
    match = _OWN.fullmatch(text)
    if match is None:
        return logging.INFO, text
    return logging.getLevelNamesMapping()[match["level"]], match["text"]


UNITS = {Phase.TRAIN: "steps", Phase.EVALUATE: "episodes", Phase.STORE: "files"}
"""Unit of a board's steps in each phase."""


def line(board: Board) -> str:
    """Returns a run's progress in one line."""
    text = f"{board.run} {board.phase.value}: "
    if board.total:
        text += f"{board.step:,} of {board.total:,} {UNITS[board.phase]}"
    else:
        text += "running"
    if board.steps_per_s is not None and board.phase is Phase.TRAIN:
        text += f", {board.steps_per_s:,.0f} steps/s"
    if board.episode_return is not None:
        text += f", return {board.episode_return:.4g}"
    if board.eta_s is not None:
        text += f", {duration(board.eta_s)} left"
    if usage := in_words(board.usage):
        text += f", {usage}"
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
    """None: not created, as the training has just begun or is short."""
    reported: tuple[int, int] | None = None
    over: bool = False
    """The page shows the result; an older update must not overwrite it."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.monotonic)
    context: Context = field(default_factory=copy_context)
    """The context of the task that waits for the ticket."""
    cost: str | None = None
    """What the machines have cost; None: it is read."""


class Publisher:
    """Publishes the boards of the tickets that tasks wait for.

    Args:
        interval_s: Seconds between two publications of progress.
        logs_every_s: Seconds between two checks for new lines.
        short_s: Seconds; a training that takes less has no artifact.
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S,
        logs_every_s: float = LOGS_EVERY_S,
        short_s: float = SHORT_S,
    ) -> None:
        self._interval_s = interval_s
        self._logs_every_s = logs_every_s
        self._short_s = short_s
        self._tails: dict[tuple[str, str, str], Tail] = {}
        """Positions in the logs, kept over the phases of a run, so that each line is sent once."""
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._lost_rows: list[JsonObject] = []
        self._lost_table: UUID | None = None
        self._lost_lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def lost(self, experiment: str, loss: WorkerLost) -> None:
        """Adds a lost attempt to the flow run's table of them, which is one artifact.

        Args:
            experiment: Name of the experiment, for the artifact's key.
            loss: The loss; one that no attempt follows is the failure of its task.
        """
        if loss.row is not None:
            self._quietly(self._add_lost, experiment, {**loss.row})

    def _add_lost(self, experiment: str, row: JsonObject) -> None:
        from prefect.artifacts import create_table_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        with self._lost_lock:
            self._lost_rows.append(row)
            if self._lost_table is None:
                key = artifact_key("lost-attempts", experiment)
                text = f"Lost attempts of {experiment}: each was repeated"
                created = create_table_artifact(self._lost_rows, key=key, description=text)
                self._lost_table = cast(UUID, created)
                return
            update = ArtifactUpdate(data=json.dumps(self._lost_rows))
            with get_client(sync_client=True) as client:
                client.update_artifact(self._lost_table, update)

    @contextlib.contextmanager
    def publishing(
        self, driver: Driver, experiment: str, run: str, ticket: str, logger: Logger
    ) -> Iterator[None]:
        """Publishes a ticket's progress while the block runs, and its end.

        Args:
            driver: Driver that reads the boards.
            experiment: Name of the experiment, for the artifact's key.
            run: The run.
            ticket: The ticket; its last part is the phase.
            logger: The task run's logger.
        """
        key = (driver.mailbox.store.url, experiment, run)
        phase = ticket.rsplit(".", 1)[-1]
        with self._lock:
            tail = self._tails.setdefault(key, Tail(driver.mailbox, run))
        watched = _Watched(driver, experiment, run, phase, logger, tail)
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
            self._quietly(self._create, watched)
            self._quietly(self._publish, watched, done)

    def _loop(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._wake.wait(self._logs_every_s):
            with self._lock:
                watched = list(self._watched.values())
                if not watched:
                    self._thread = None
                    return
            for ticket in watched:
                self._quietly(self._send_logs, ticket, Phase(ticket.phase))
                self._quietly(self._create, ticket)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._interval_s
            costs: dict[tuple[str, str], str] = {}
            for ticket in watched:
                self._quietly(self._read_cost, ticket, costs)
                self._quietly(self._publish, ticket, False)

    @staticmethod
    def _quietly(action: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            action(*args, **kwargs)
        except Exception as error:
            log.debug("not published: %s", error)

    @staticmethod
    def _send_logs(watched: _Watched, phase: Phase | None = None) -> None:
        with watched.lock:  # the end of a task and the thread may both send
            lines = list(watched.tail.new(phase))
            for text in lines[:MOST_LINES]:
                level, message = levelled(text)
                watched.log.log(level, "%s | %s", watched.run, redact(message))
        if len(lines) > MOST_LINES:
            watched.log.info(
                "%s | and %d more lines: drillyard logs %s/%s",
                watched.run,
                len(lines) - MOST_LINES,
                watched.experiment,
                watched.run,
            )

    def _create(self, watched: _Watched) -> None:
        """Creates the artifact of a training that is not short.

        A study may have thousands of short ones, and an artifact costs more than their task runs.
        """
        due = watched.began + self._short_s
        if watched.phase != Phase.TRAIN.value or watched.artifact or time.monotonic() < due:
            return
        from prefect.artifacts import create_progress_artifact

        with watched.lock:
            if watched.over:
                return
            # In the context of its task, so that the artifact belongs to its task run.
            created = watched.context.run(
                create_progress_artifact,
                0.0,
                key=artifact_key("progress", watched.experiment, watched.run),
                description=f"Training of {watched.run} ({watched.experiment})",
            )
            watched.artifact = cast(UUID, created)  # a coroutine only inside an event loop

    @staticmethod
    def _read_cost(watched: _Watched, costs: dict[tuple[str, str], str]) -> None:
        """Reads the cost once for all runs of an experiment."""
        mailbox = watched.driver.mailbox
        key = mailbox.store.url, mailbox.experiment
        if key not in costs:
            costs[key] = so_far(mailbox)
        watched.cost = costs[key]

    @staticmethod
    def _publish(watched: _Watched, done: bool) -> None:
        with watched.lock:
            if watched.over:
                return
            watched.over = done
            Publisher._show(watched)

    @staticmethod
    def _show(watched: _Watched) -> None:
        from prefect.artifacts import update_progress_artifact

        if watched.over:  # the task shows the result itself; a board would be older
            if watched.artifact is not None:
                update_progress_artifact(watched.artifact, 100.0, _trained(watched))
            return
        board = watched.driver.board(watched.run)
        if board is None or board.phase.value != watched.phase:
            return
        if watched.reported != (board.attempt, board.step):
            watched.reported = (board.attempt, board.step)
            watched.log.info(line(board))
        if watched.artifact is not None:
            percent = round(100.0 * board.step / max(1, board.total), 1)
            cost = watched.cost or so_far(watched.driver.mailbox)
            description = f"{line(board)}; {cost}"
            update_progress_artifact(watched.artifact, min(100.0, percent), description)


def _trained(watched: _Watched) -> str:
    accepted = watched.driver.mailbox.accepted(watched.run, Phase.TRAIN)
    steps = accepted.summary.get("steps") if accepted is not None else None
    return f"{watched.run}: trained" + (f", {steps:,} steps" if isinstance(steps, int) else "")
