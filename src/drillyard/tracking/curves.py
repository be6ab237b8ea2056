"""Feeds a ``CurveWriter`` from the mailbox: which run, which rows, when it is complete.

A run whose process was killed, or that was resumed, is written again from its start. This needs no
memory of what a place took before the kill, and costs one reading of the run's streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from drillyard.errors import ControlPlaneError, DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Phase
from drillyard.metrics.reader import StreamReader
from drillyard.metrics.streams import Line
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.files import locked
from drillyard.system.home import local_home
from drillyard.system.redaction import redact
from drillyard.tracking import params_and_tags, status_map
from drillyard.tracking.points import batches, new_lines, numbers
from drillyard.tracking.sync_state import PARENT, Notes, RunNote
from drillyard.tracking.tracker import (
    CurveWriter,
    Row,
    RunFacts,
    Sent,
    Standing,
    Target,
    Tracker,
    title,
)

_BATCH = 1000


@dataclass
class _Open:
    """A run that was begun in this process."""

    facts: RunFacts
    reader: StreamReader


class CurveTracker(Tracker):
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
        super().__init__(mailbox, Target(tracker, address), clock)
        self._writer = writer
        self._notes = Notes(mailbox, self._target.key)
        self._open: dict[str, _Open] = {}
        self._link: str | None = None

    def link(self) -> str | None:
        """Where a browser sees the experiment, or None; as the writer said last."""
        return self._link

    def close(self) -> None:
        """Completes the runs that have not ended, as far as they are."""
        with self._translated():
            self._writer.close()
        self._open.clear()

    def send(self, sent: Sent, *, trust: bool) -> None:
        """Send the runs that the place does not have completely; see ``Tracker``."""
        try:
            with self._alone(), self._translated():
                self._send(sent, trust)
        except DrillyardError:
            sent.points = 0  # runs begin again: what was sent does not count
            raise

    # -- inside -------------------------------------------------------------------------------

    def _send(self, sent: Sent, trust: bool) -> None:
        now = self.standing()
        sent.runs = len(now.runs)
        for name, word in now.words.items():
            if word == "SCHEDULED" or self._is_done(now, name, trust):
                continue
            try:
                sent.points += self._run(now, name)
            except Exception:
                self._open.pop(name, None)  # what the place has of it is unknown: begin again
                raise
        done = not {"SCHEDULED", "RUNNING"} & set(now.words.values())
        self._link = self._writer.link()
        note = RunNote(run=PARENT, run_id=PARENT, link=self._link, done=done, written_at=0.0)
        if now.runs and self._notes.read(PARENT) != note:
            self._notes.write(note)

    def _is_done(self, now: Standing, name: str, trust: bool) -> bool:
        note = self._notes.read(name)
        if note is None or not note.is_done(now.words[name]):
            return False
        return trust or self._writer.has(self._facts(now, name))

    def _run(self, now: Standing, name: str) -> int:
        run, word = self._open.get(name), now.words[name]
        if run is None:
            run = _Open(self._facts(now, name), StreamReader(self.mailbox, name, again=True))
        before = run.reader.attempt
        lines = new_lines(run.reader)
        # The merged streams of a resumed run replace what was written.
        if name not in self._open or run.reader.attempt != before:
            self._writer.begin(run.facts)
            self._open[name] = run
        points = 0
        for rows in batches(_rows(lines), _BATCH):
            self._writer.write(run.facts, rows)
            points += sum(len(row.values) for row in rows)
        if word != "RUNNING":
            facts = self._facts(now, name, status_map.ending_tags(now.states, name))
            self._writer.end(facts, word, self._final(name))
            self._open.pop(name)
            self._notes.write(
                RunNote(
                    run=name,
                    run_id=facts.id,
                    attempt=run.reader.attempt,
                    status=word,
                    done=True,
                    written_at=self._clock.now(),
                )
            )
        return points

    def _facts(self, now: Standing, name: str, more: Mapping[str, str] | None = None) -> RunFacts:
        record, run = now.record, now.runs[name]
        trained = self.mailbox.accepted(run.run, Phase.TRAIN)
        tags = params_and_tags.run_tags(record, run, self.mailbox.store.url)
        return RunFacts(
            id=f"{self._notes.mailbox_id()}-{run.run}",
            run=run.run,
            experiment=record.name,
            trial=run.trial,
            seed=run.seed,
            started_at=record.created_at,
            params=params_and_tags.run_params(record, run, trained),
            tags={k: v for k, v in tags.items() if not k.startswith("mlflow.")} | {**(more or {})},
        )

    def _final(self, name: str) -> dict[str, float]:
        trained = self.mailbox.accepted(name, Phase.TRAIN)
        evaluated = self.mailbox.accepted(name, Phase.EVALUATE)
        points = params_and_tags.end_points(trained, evaluated)
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
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ControlPlaneError(
                f"{title(self._target.tracker)}: {redact(lines[0][:300])}",
                hint="nothing is lost: `drillyard sync` sends what is missing",
            ) from error


def _rows(lines: list[Line]) -> Iterator[Row]:
    """Rows with at least one number, by step: the streams of a run come one after the other."""
    for line in sorted(lines, key=lambda row: int(row["step"])):
        values = dict(numbers(line.get("metrics", {})))
        if values:
            yield Row(int(line["step"]), float(line.get("time", 0.0)), values)
