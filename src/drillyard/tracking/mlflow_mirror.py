"""Replays an experiment's mailbox to MLflow, as often as it is asked; the engine of the mirror.

One parent run an experiment, one child run a run, found again by what the mailbox noted or by
their tags. What the server has decides what is sent, so a mirror that was killed anywhere, or two
at once, leave one copy of every point.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from drillyard.attempts import StateCache, TicketState, ticket_states
from drillyard.clock import SYSTEM, Clock
from drillyard.errors import CorruptObject, DrillyardError, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, ExperimentRecord, Phase, RunRecord
from drillyard.redaction import redact_tree
from drillyard.tracking import facts, words
from drillyard.tracking.notes import PARENT, Notes, RunNote
from drillyard.tracking.points import Point, StreamTail, newest_attempt, not_sent, points_of
from drillyard.tracking.server import RemoteRun, Server
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.uris import local_folder, mask, sqlite_file

log = logging.getLogger(__name__)

RUN_ARTIFACTS = ("policy/*", "evaluation/*", "trajectories/*", "metrics.csv", "evaluations.csv",
                 "monitor.csv", "platform.json", "results.json", "telemetry.csv", "files/*",
                 "children/*")  # fmt: skip
MAX_ARTIFACT_BYTES = 20 << 20
"""Larger files stay in the store; a tag says so."""

SILENCE_S = 45.0
"""Nobody works on an experiment whose driver, workers and boards were silent for so long."""


@dataclass
class _Run:
    """What this process knows of a run that it mirrors."""

    tail: StreamTail
    remote: RemoteRun | None = None
    note: RunNote | None = None
    told: str = ""
    """Fingerprint of the parameters and tags that were sent."""
    barred: dict[str, int] = field(default_factory=dict)
    """Metric -> greatest step that the server had when this attempt was read first."""


@dataclass
class _Sent:
    points: int = 0
    artifacts: int = 0
    runs: int = 0
    problems: list[DrillyardError] = field(default_factory=list)


class MlflowMirror:
    """Mirrors one experiment to one server.

    Args:
        mailbox: What to mirror.
        uri: Where to.
        clock: For times of ends that nobody wrote down.
    """

    def __init__(self, mailbox: Mailbox, uri: str, clock: Clock = SYSTEM) -> None:
        self._mailbox = mailbox
        self._uri = uri
        self._clock = clock
        self._notes = Notes(mailbox, uri)
        self._cache = StateCache()
        self._runs: dict[str, _Run] = {}
        self._records: dict[str, RunRecord] = {}
        self._parent = _Run(StreamTail(mailbox, PARENT))
        self._server: Server | None = None
        self._experiment_id = ""

    def sync(self, *, trust: bool = False) -> SyncReport:
        """Send what the server does not have.

        Args:
            trust: Believe the notes about runs that were done, without asking the server. A
                mirror in the background does, so that a study of a thousand finished runs costs
                nothing; ``drillyard sync`` does not.

        Returns:
            What was sent, and the first thing that went wrong. Never raises for the server's sake.
        """
        began = self._clock.monotonic()
        sent = _Sent()
        error: DrillyardError | None = None
        try:
            self._sync(sent, trust)
        except DrillyardError as found:
            error = found
        error = error or next(iter(sent.problems), None)
        return SyncReport(
            uri=mask(self._uri),
            runs=sent.runs,
            points=sent.points,
            artifacts=sent.artifacts,
            complete=error is None,
            error=None if error is None else mask(str(error)),
            hint=None if error is None else error.hint,
            link=self._link(),
            wall_s=round(self._clock.monotonic() - began, 3),
        )

    def ensure_run(self, run: str) -> tuple[Server, str]:
        """The server and the id there of a run, which is made when it is not there.

        Raises:
            DrillyardError: The server cannot be reached, or refuses.
        """
        record = self._mailbox.experiment_record()
        parent = self._ensure(record, None, self._parent)
        mine = self._runs.setdefault(run, _Run(StreamTail(self._mailbox, run)))
        remote = self._ensure(record, self._mailbox.run(run), mine, parent)
        return self._connected(), remote.run_id

    def settled(self) -> bool:
        """True when no run will change any more unless somebody starts it again."""
        states = ticket_states(self._mailbox, self._cache)
        return all(s.status.ended for s in states.values()) or not self._alive()

    # -- the whole experiment -----------------------------------------------------------------

    def _sync(self, sent: _Sent, trust: bool) -> None:
        record = self._mailbox.experiment_record()
        states = ticket_states(self._mailbox, self._cache)
        for name in {s.ticket.run for s in states.values()} - set(self._records):
            self._records[name] = self._mailbox.run(name)
        runs = [self._records[name] for name in sorted(self._records)]
        alive = self._alive()
        standing = {r.run: words.word(states, r.run, alive) for r in runs}
        sent.runs = len(runs)
        undone = [r for r in runs if not (trust and self._is_done(r.run, standing[r.run]))]

        parent = self._ensure(record, None, self._parent)
        for run in undone:
            mine = self._runs.setdefault(run.run, _Run(StreamTail(self._mailbox, run.run)))
            try:
                remote = self._ensure(record, run, mine, parent)
                self._mirror_run(record, run, states, standing[run.run], mine, remote, sent)
            except DrillyardError as error:
                # What an unanswered request did is not known: ask again next time.
                mine.remote, mine.told = None, ""
                if not isinstance(error, CorruptObject):
                    raise
                sent.problems.append(error)  # this run's; the others go on
        self._mirror_parent(record, runs, standing, parent, sent)

    def _mirror_parent(
        self,
        record: ExperimentRecord,
        runs: list[RunRecord],
        standing: Mapping[str, str],
        remote: RemoteRun,
        sent: _Sent,
    ) -> None:
        server, mine = self._connected(), self._parent
        self._tell(mine, remote, facts.experiment_params(record), {})
        evaluated = [
            a for r in runs if standing[r.run] == "FINISHED"
            if (a := self._mailbox.accepted(r.run, Phase.EVALUATE)) is not None
        ]  # fmt: skip
        sent.points += server.send_points(
            remote, not_sent(facts.parent_points(evaluated), remote.floors)
        )
        spec = json.dumps(redact_tree(record.spec), indent=1, sort_keys=True)
        files: dict[str, bytes] = {"experiment.json": spec.encode()}
        for info in self._mailbox.store.list(self._mailbox.key("report/")):
            name = info.key[len(self._mailbox.key("")):]  # fmt: skip
            if info.size <= MAX_ARTIFACT_BYTES:
                files[name] = self._mailbox.store.get(info.key)
        note = mine.note or RunNote(run=PARENT, run_id=remote.run_id)
        artifacts = dict(note.artifacts)
        with tempfile.TemporaryDirectory(prefix="drillyard-mirror-") as folder:
            for name, data in files.items():
                if artifacts.get(name) == sha256_hex(data):
                    continue
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                server.send_file(remote.run_id, path, name)
                artifacts[name] = sha256_hex(data)
                sent.artifacts += 1
        word = words.parent_word(list(standing.values()))
        self._set_status(remote, word, None)
        self._write_note(mine, note.model_copy(update={
            "artifacts": artifacts, "status": word, "points": len(remote.floors),
            "done": word not in ("RUNNING", "SCHEDULED"),
        }))  # fmt: skip

    # -- one run ------------------------------------------------------------------------------

    def _mirror_run(
        self,
        record: ExperimentRecord,
        run: RunRecord,
        states: Mapping[str, TicketState],
        word: str,
        mine: _Run,
        remote: RemoteRun,
        sent: _Sent,
    ) -> None:
        server = self._connected()
        note = mine.note or RunNote(run=run.run, run_id=remote.run_id)
        accepted = {p: self._mailbox.accepted(run.run, p) for p in Phase}
        trained, evaluated = accepted[Phase.TRAIN], accepted[Phase.EVALUATE]
        tags = words.ending_tags(states, run.run)
        self._tell(mine, remote, facts.run_params(record, run, trained), tags)
        if word == "RUNNING":
            self._set_status(remote, word, None)

        attempt = newest_attempt(self._mailbox, run.run, words.claimed(states, run.run))
        if attempt is not None:
            sent_points = self._send_curves(attempt, mine, remote)
        else:
            sent_points = 0
        ends: list[Point] = facts.train_points(trained) if trained else []
        if evaluated is not None:
            step = int(trained.summary.get("steps") or 0) if trained else 0
            ends += facts.evaluation_points(evaluated, step)
        sent_points += server.send_points(remote, not_sent(ends, remote.floors))
        sent.points += sent_points

        note = note.model_copy(update={"attempt": attempt, "points": note.points + sent_points})
        if (stored := accepted[Phase.STORE]) is not None:
            note = self._send_artifacts(record, stored, remote, note, sent)
        ended_at = max((a.ended_at for a in accepted.values() if a is not None), default=None)
        self._set_status(remote, word, ended_at if word == "FINISHED" else None)
        ended = word not in ("RUNNING", "SCHEDULED")
        self._write_note(mine, note.model_copy(update={"status": word, "done": ended}))

    def _send_curves(self, attempt: int, mine: _Run, remote: RemoteRun) -> int:
        """Send what is new of the streams; how many points.

        A resumed attempt writes the steps after its checkpoint a second time, with equal values
        and another time of day; those that the server has from the attempt before are left out.
        """
        if mine.tail.attempt not in (None, attempt):
            found = self._connected().run(remote.run_id)
            if found is not None:
                remote.floors = found.floors
        lines, whole = mine.tail.read(attempt)
        if whole:
            mine.barred = dict(remote.floors)
        points = not_sent((p for line in lines for p in points_of(line)), mine.barred)
        self._connected().send_points(remote, points)
        mine.tail.commit()
        return len(points)

    def _send_artifacts(
        self,
        record: ExperimentRecord,
        stored: Accepted,
        remote: RemoteRun,
        note: RunNote,
        sent: _Sent,
    ) -> RunNote:
        manifest = self._mailbox.manifest(stored)
        if "platform.json" in manifest.files:
            platform = json.loads(self._mailbox.read_file(manifest, "platform.json"))
            self._connected().send_tags(remote, facts.platform_tags(platform))
        if any(t.get("url") == "mlflow" for t in record.spec.get("store", [])):
            return note  # the store phase has written the user's choice of files, and verified it
        artifacts, large = dict(note.artifacts), []
        with tempfile.TemporaryDirectory(prefix="drillyard-mirror-") as folder:
            for name, entry in manifest.files.items():
                if not any(fnmatch(name, glob) for glob in RUN_ARTIFACTS):
                    continue
                if entry.size > MAX_ARTIFACT_BYTES:
                    large.append(name)
                elif artifacts.get(name) != entry.sha256:
                    path = Path(folder) / name
                    fetch_file(self._mailbox, entry, path)
                    self._connected().send_file(remote.run_id, path, name)
                    artifacts[name] = entry.sha256
                    sent.artifacts += 1
        if large:
            tag = {"drillyard.artifacts_left_out": ", ".join(large)}
            self._connected().send_tags(remote, tag)
        return note.model_copy(update={"artifacts": artifacts})

    # -- inside -------------------------------------------------------------------------------

    def _connected(self) -> Server:
        if self._server is None:
            folder = None
            if "://" in self._uri and not self._uri.startswith("http"):
                database = sqlite_file(self._uri)
                home = database.parent if database else local_folder(self._mailbox.store.url)
                folder = None if home is None else home / "mlflow-artifacts"
            self._server = Server(self._uri, folder, self._clock)
        return self._server

    def _ensure(
        self,
        record: ExperimentRecord,
        run: RunRecord | None,
        mine: _Run,
        parent: RemoteRun | None = None,
    ) -> RemoteRun:
        """The run on the server, made when it is not there; asked once a process and run."""
        if mine.remote is not None:
            return mine.remote
        server = self._connected()
        self._experiment_id = self._experiment_id or server.experiment(record.name)
        name = PARENT if run is None else run.run
        noted = self._notes.tracked(name)
        remote = None if noted is None else server.run(noted)
        if remote is None:
            word = self._notes.mailbox_id()
            url = self._mailbox.store.url
            if run is None:
                tags = {**facts.experiment_tags(record, url, word), facts.NAME_TAG: PARENT}
            else:
                tags = facts.run_tags(record, run, url, word)
            if parent is not None:
                tags[facts.PARENT_TAG] = parent.run_id
            key = {facts.MAILBOX_TAG: word, facts.NAME_TAG: name}
            found = server.find(self._experiment_id, key)
            own = found[0] if found else server.create(
                self._experiment_id, record.name if run is None else run.name or name, tags,
                record.created_at if run is None else self._clock.now(),
            )  # fmt: skip
            counts = self._notes.track(name, own, replace=noted is not None)
            if counts != own and not found:
                server.delete(own)  # another mirror was first
            remote = server.run(counts) or server.run(own)
            if remote is None:
                raise UserError(
                    f"run {name} was deleted in MLflow while it was being mirrored",
                    hint="sync again",
                )
        note = self._notes.read(name)
        mine.remote = remote
        mine.note = note if note is not None and note.run_id == remote.run_id else None
        return remote

    def _tell(
        self, mine: _Run, remote: RemoteRun, params: dict[str, str], tags: dict[str, str]
    ) -> None:
        told = sha256_hex(json.dumps([params, tags], sort_keys=True).encode())
        if told != mine.told:
            self._connected().send_params(remote, params)
            self._connected().send_tags(remote, tags)
            mine.told = told

    def _set_status(self, remote: RemoteRun, word: str, ended_at: float | None) -> None:
        if remote.status != word:
            self._connected().set_status(remote.run_id, word, ended_at)
            remote.status = word

    def _write_note(self, mine: _Run, note: RunNote) -> None:
        if mine.note is None or note != mine.note:
            mine.note = note.model_copy(update={"written_at": self._clock.now()})
            self._notes.write(mine.note)

    def _is_done(self, run: str, word: str) -> bool:
        mine = self._runs.get(run)
        note = mine.note if mine is not None else self._notes.read(run)
        return note is not None and note.done and note.status == word

    def _alive(self) -> bool:
        """True while a driver, a worker or a run gave a sign of life, by the store's clock."""
        store, now = self._mailbox.store, self._mailbox.store.now()
        return any(
            now - info.updated_at < SILENCE_S
            for folder in ("driver/", "workers/", "board/")
            for info in store.list(self._mailbox.key(folder))
        )

    def _link(self) -> str | None:
        if self._server is None or not self._experiment_id:
            return None
        remote = self._parent.remote
        return self._server.link(self._experiment_id, remote.run_id if remote else None)
