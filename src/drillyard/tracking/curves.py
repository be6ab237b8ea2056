"""Feeds a ``CurveWriter`` from the mailbox: which run, which rows, when it is complete.

A run whose process was killed, or that was resumed, is written again from its start. This needs no
memory of what a place took before the kill, and costs one reading of the run's streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from drillyard.errors import ControlPlaneError, DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import ExperimentRecord, Phase, RunRecord
from drillyard.mailbox.summaries import TrainSummary
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.metrics.streams import Line
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.files import locked
from drillyard.system.home import local_home
from drillyard.system.redaction import redact
from drillyard.tracking import params_and_tags, status_map
from drillyard.tracking.points import StreamTail, newest_attempt, numbers
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.sync_state import PARENT, Notes, RunNote
from drillyard.tracking.tracker import CurveWriter, Row, RunFacts, Target, title
from drillyard.tracking.uris import mask

_BATCH = 1000
_T = TypeVar("_T")


@dataclass
class _Open:
    """A run that was begun in this process."""

    facts: RunFacts
    tail: StreamTail


class CurveTracker:
    """Copies the curves of one experiment to one place.

    Args:
        mailbox: The experiment.
        tracker: Registered name of the tracker.
        address: The place, as the experiment's file names it.
        writer: Writes there.
        clock: For the times in the notes.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        tracker: str,
        address: str,
        writer: CurveWriter,
        clock: Clock = SYSTEM,
    ) -> None:
        self.mailbox = mailbox
        self._target = Target(tracker, address)
        self._writer = writer
        self._clock = clock
        self._notes = Notes(mailbox, self._target.key)
        self._cache = StateCache()
        self._records: dict[str, RunRecord] = {}
        self._open: dict[str, _Open] = {}

    def sync(self, *, trust: bool = False) -> SyncReport:
        """Send what the place does not have; see ``Tracker``."""
        began = self._clock.monotonic()
        runs = points = 0
        error: DrillyardError | None = None
        link: str | None = None
        try:
            with self._alone(), self._translated():
                runs, points = self._sync(trust)
                link = self._writer.link()
        except DrillyardError as found:
            error, points = found, 0
        return SyncReport(
            uri=mask(self._target.address),
            tracker=self._target.tracker,
            runs=runs,
            points=points,
            complete=error is None,
            error=None if error is None else mask(redact(str(error))),
            hint=None if error is None else error.hint,
            link=link,
            wall_s=round(self._clock.monotonic() - began, 3),
        )

    def settled(self) -> bool:
        """Returns whether no run will change unless it is started again."""
        states = ticket_states(self.mailbox, self._cache)
        return all(s.status.ended for s in states.values()) or not status_map.alive(self.mailbox)

    def close(self) -> None:
        """Completes the runs that have not ended, as far as they are."""
        with self._translated():
            self._writer.close()
        self._open.clear()

    # -- inside -------------------------------------------------------------------------------

    def _sync(self, trust: bool) -> tuple[int, int]:
        record = self.mailbox.experiment_record()
        states = ticket_states(self.mailbox, self._cache)
        for name in {s.ticket.run for s in states.values()} - set(self._records):
            self._records[name] = self.mailbox.run(name)
        alive, points = status_map.alive(self.mailbox), 0
        undone = False
        for name in sorted(self._records):
            word = status_map.word(states, name, alive)
            if word == "SCHEDULED":
                undone = True
                continue
            if self._is_done(record, name, word, trust):
                continue
            try:
                points += self._run(record, name, states, word)
            except Exception:
                self._open.pop(name, None)  # what the place has of it is unknown: begin again
                raise
            undone = undone or word == "RUNNING"
        note = RunNote(
            run=PARENT, run_id=PARENT, link=self._writer.link(), done=not undone, written_at=0.0
        )
        if self._records and self._notes.read(PARENT) != note:
            self._notes.write(note)
        return len(self._records), points

    def _is_done(self, record: ExperimentRecord, name: str, word: str, trust: bool) -> bool:
        note = self._notes.read(name)
        if note is None or not note.done or note.status != word:
            return False
        return trust or self._writer.has(self._facts(record, self._records[name]))

    def _run(
        self,
        record: ExperimentRecord,
        name: str,
        states: Mapping[str, TicketState],
        word: str,
    ) -> int:
        mine = self._open.get(name)
        begun = mine is not None
        if mine is None:
            facts = self._facts(record, self._records[name])
            mine = _Open(facts, StreamTail(self.mailbox, name))
        attempt = newest_attempt(self.mailbox, name, status_map.claimed(states, name))
        lines: list[Line] = []
        if attempt is not None:
            lines, whole = mine.tail.read(attempt)
            begun = begun and not whole  # resumed: its merged streams replace what was written
        if not begun:
            self._writer.begin(mine.facts)
            self._open[name] = mine
        points = 0
        for rows in _batches(_rows(lines), _BATCH):
            self._writer.write(mine.facts, rows)
            points += sum(len(row.values) for row in rows)
        mine.tail.commit()
        if word not in ("RUNNING", "SCHEDULED"):
            facts = self._facts(record, self._records[name], status_map.ending_tags(states, name))
            self._writer.end(facts, word, self._final(name))
            self._open.pop(name)
            self._notes.write(
                RunNote(
                    run=name,
                    run_id=facts.id,
                    attempt=attempt,
                    status=word,
                    done=True,
                    written_at=self._clock.now(),
                )
            )
        return points

    def _facts(
        self, record: ExperimentRecord, run: RunRecord, more: Mapping[str, str] | None = None
    ) -> RunFacts:
        trained = self.mailbox.accepted(run.run, Phase.TRAIN)
        tags = params_and_tags.run_tags(record, run, self.mailbox.store.url)
        known = RunFacts(
            id=f"{self._notes.mailbox_id()}-{run.run}",
            run=run.run,
            experiment=record.name,
            trial=run.trial,
            seed=run.seed,
            started_at=record.created_at,
            params=params_and_tags.run_params(record, run, trained),
            tags={k: v for k, v in tags.items() if not k.startswith("mlflow.")},
        )
        return known if not more else replace(known, tags={**known.tags, **more})

    def _final(self, name: str) -> dict[str, float]:
        trained = self.mailbox.accepted(name, Phase.TRAIN)
        evaluated = self.mailbox.accepted(name, Phase.EVALUATE)
        step = TrainSummary.of(trained).steps or 0
        points = [] if trained is None else params_and_tags.train_points(trained)
        if evaluated is not None:
            points += params_and_tags.evaluation_points(evaluated, step)
        return {point.key: point.value for point in points}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that write one run at once would mix its rows."""
        text = f"{self.mailbox.store.url}\n{self.mailbox.experiment}\n{self._target.key}"
        path = local_home() / "tracking" / f"{sha256_hex(text.encode())[:16]}.lock"
        busy = ControlPlaneError(
            "another process of this machine is sending this experiment there",
            hint="wait until it has ended, then repeat the command",
        )
        with locked(path, 0.0, busy):
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What a place's library raises, as our own error."""
        try:
            yield
        except DrillyardError:
            raise
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ControlPlaneError(
                f"{title(self._target.tracker)}: {redact(said[0][:300])}",
                hint="nothing is lost: `drillyard sync` sends what is missing",
            ) from error


def _rows(lines: list[Line]) -> Iterator[Row]:
    """Rows with at least one number, by step: the streams of a run come one after the other."""
    for line in sorted(lines, key=lambda one: int(one["step"])):
        values = dict(numbers(line.get("metrics", {})))
        if values:
            yield Row(int(line["step"]), float(line.get("time", 0.0)), values)


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch
