"""Replays an experiment's mailbox to MLflow on request; the engine of the mirror.

One parent run an experiment, one child run a run, and in a study one a trial between them, found
again by what the mailbox noted or by their tags. What the server has decides what is sent, so a
mirror that was killed anywhere, or two at once, leave one copy of every point.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from drillyard.documents.json_types import as_list, as_object
from drillyard.errors import CorruptObject, DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, ExperimentRecord, Phase, RunRecord
from drillyard.mailbox.summaries import TrainSummary
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.redaction import redact_tree
from drillyard.tracking import params_and_tags, status_map
from drillyard.tracking.points import (
    Point,
    as_in_azure,
    changed,
    newest_attempt,
    not_sent,
    points_of,
)
from drillyard.tracking.remote_runs import Mirrored, RemoteRuns
from drillyard.tracking.server import RemoteRun, Server
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.sync_state import PARENT, RunNote
from drillyard.tracking.trial_runs import TrialLevel
from drillyard.tracking.uris import is_azure, mask

log = logging.getLogger(__name__)

RUN_ARTIFACTS = (
    "policy/*",
    "evaluation/*",
    "trajectories/*",
    "metrics.csv",
    "evaluations.csv",
    "monitor.csv",
    "platform.json",
    "results.json",
    "telemetry.csv",
    "files/*",
    "children/*",
    "videos/*",
)
MAX_ARTIFACT_BYTES = 20 << 20
"""Larger files stay in the store; a tag says so."""

RegisterBest = Callable[[Mailbox, Sequence[str], str, str], str]
"""(experiment, ids of its runs, name of the model, address of the server) -> the result."""


@dataclass
class _Sent:
    points: int = 0
    artifacts: int = 0
    runs: int = 0
    registered: str = ""
    problems: list[DrillyardError] = field(default_factory=list)


class MlflowMirror:
    """Mirrors one experiment to one server.

    Args:
        mailbox: What to mirror.
        uri: Where to.
        clock: For end times that were not recorded.
        register_best: Registers the best policy of a finished experiment; None: nothing does.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        uri: str,
        clock: Clock = SYSTEM,
        register_best: RegisterBest | None = None,
    ) -> None:
        self._register_best = register_best
        self.mailbox = self._mailbox = mailbox
        self._uri = uri
        self._clock = clock
        self._cache = StateCache()
        self._records: dict[str, RunRecord] = {}
        self._remote = RemoteRuns(mailbox, uri, clock)
        self._trials = TrialLevel(mailbox, self._remote)

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
            registered=sent.registered,
            link=self._remote.link(PARENT),
            wall_s=round(self._clock.monotonic() - began, 3),
        )

    def ensure_run(self, run: str) -> tuple[Server, str]:
        """The server and the id there of a run, which is made when it is not there.

        Raises:
            DrillyardError: The server cannot be reached, or refuses.
        """
        record = self._mailbox.experiment_record()
        remote = self._ensure(record, self._mailbox.run(run), self._experiment(record))
        return self._remote.server, remote.run_id

    def settled(self) -> bool:
        """Returns whether no run will change unless it is started again."""
        states = ticket_states(self._mailbox, self._cache)
        return all(s.status.ended for s in states.values()) or not status_map.alive(self._mailbox)

    def close(self) -> None:
        """Nothing is open between two calls of ``sync``."""

    # -- the whole experiment -----------------------------------------------------------------

    def _sync(self, sent: _Sent, trust: bool) -> None:
        record = self._mailbox.experiment_record()
        states = ticket_states(self._mailbox, self._cache)
        for name in {s.ticket.run for s in states.values()} - set(self._records):
            self._records[name] = self._mailbox.run(name)
        runs = [self._records[name] for name in sorted(self._records)]
        alive = status_map.alive(self._mailbox)
        standing = {r.run: status_map.word(states, r.run, alive) for r in runs}
        sent.runs = len(runs)
        undone = [r for r in runs if not (trust and self._remote.is_done(r.run, standing[r.run]))]

        parent = self._experiment(record)
        if study := _is_study(record):
            self._trials.load()
        for run in undone:
            mine = self._remote.known(run.run)
            try:
                remote = self._ensure(record, run, parent)
                self._mirror_run(record, run, states, standing[run.run], mine, remote, sent)
            except DrillyardError as error:
                mine.forget()
                if not isinstance(error, CorruptObject):
                    raise
                sent.problems.append(error)  # this run's; the others go on
        if study:
            sent.points += self._trials.mirror(record, standing, parent, alive=alive, trust=trust)
            state = self._mailbox.study_state()
            word = status_map.study_word(list(standing.values()), state, alive)
            self._mirror_parent(
                record,
                parent,
                word,
                self._trials.study_points(),
                self._trials.study_tags(state),
                sent,
            )
            self._register(record, word, sent, trust)
            return
        evaluated = [
            a
            for r in runs
            if standing[r.run] == "FINISHED"
            if (a := self._mailbox.accepted(r.run, Phase.EVALUATE)) is not None
        ]
        word = status_map.parent_word(list(standing.values()))
        self._mirror_parent(
            record, parent, word, params_and_tags.parent_points(evaluated), {}, sent
        )
        self._register(record, word, sent, trust)

    def _register(self, record: ExperimentRecord, word: str, sent: _Sent, trust: bool) -> None:
        """Registers the best policy once every run is finished, if the experiment requests it."""
        name = as_object(record.spec.get("tracking")).get("register_as")
        if not isinstance(name, str) or word != "FINISHED" or self._register_best is None:
            return
        mine = self._remote.known(PARENT)
        if mine.note is not None and not (trust and mine.note.registered):
            registered = self._register_best(self._mailbox, sorted(self._records), name, self._uri)
            self._remote.write_note(mine, mine.note.model_copy(update={"registered": registered}))
        sent.registered = mine.note.registered if mine.note is not None else ""

    def _mirror_parent(
        self,
        record: ExperimentRecord,
        remote: RemoteRun,
        word: str,
        points: list[Point],
        tags: dict[str, str],
        sent: _Sent,
    ) -> None:
        server, mine = self._remote.server, self._remote.known(PARENT)
        self._remote.tell(mine, remote, params_and_tags.experiment_params(record), tags)
        sent.points += server.send_points(remote, changed(points, remote.floors, remote.values))
        files = {} if is_azure(self._uri) else self._parent_files(record)
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
        self._remote.set_status(remote, word, None)
        self._remote.write_note(
            mine,
            note.model_copy(
                update={
                    "artifacts": artifacts,
                    "status": word,
                    "points": len(remote.floors),
                    "link": self._remote.link(PARENT),
                    "done": word not in ("RUNNING", "SCHEDULED"),
                }
            ),
        )

    def _parent_files(self, record: ExperimentRecord) -> dict[str, bytes]:
        """The experiment as it was resolved, and its report."""
        spec = json.dumps(redact_tree(record.spec), indent=1, sort_keys=True)
        files: dict[str, bytes] = {"experiment.json": spec.encode()}
        for info in self._mailbox.store.list(self._mailbox.key("report/")):
            name = info.key[len(self._mailbox.key("")) :]
            if info.size <= MAX_ARTIFACT_BYTES:
                files[name] = self._mailbox.store.get(info.key)
        return files

    # -- one run ------------------------------------------------------------------------------

    def _mirror_run(
        self,
        record: ExperimentRecord,
        run: RunRecord,
        states: Mapping[str, TicketState],
        word: str,
        mine: Mirrored,
        remote: RemoteRun,
        sent: _Sent,
    ) -> None:
        server = self._remote.server
        note = mine.note or RunNote(run=run.run, run_id=remote.run_id)
        accepted = {p: self._mailbox.accepted(run.run, p) for p in Phase}
        trained, evaluated = accepted[Phase.TRAIN], accepted[Phase.EVALUATE]
        tags = status_map.ending_tags(states, run.run)
        self._remote.tell(mine, remote, params_and_tags.run_params(record, run, trained), tags)
        if word == "RUNNING":
            self._remote.set_status(remote, word, None)

        attempt = newest_attempt(self._mailbox, run.run, status_map.claimed(states, run.run))
        if attempt is not None:
            sent_points = self._send_curves(attempt, mine, remote)
        else:
            sent_points = 0
        ends: list[Point] = params_and_tags.train_points(trained) if trained else []
        if evaluated is not None:
            step = TrainSummary.of(trained).steps or 0
            ends += params_and_tags.evaluation_points(evaluated, step)
        sent_points += server.send_points(remote, not_sent(ends, remote.floors))
        sent.points += sent_points

        note = note.model_copy(update={"attempt": attempt, "points": note.points + sent_points})
        if (stored := accepted[Phase.STORE]) is not None:
            note = self._send_artifacts(record, stored, remote, note, sent)
        ended_at = max((a.ended_at for a in accepted.values() if a is not None), default=None)
        self._remote.set_status(remote, word, ended_at if word == "FINISHED" else None)
        ended = word not in ("RUNNING", "SCHEDULED")
        self._remote.write_note(mine, note.model_copy(update={"status": word, "done": ended}))

    def _send_curves(self, attempt: int, mine: Mirrored, remote: RemoteRun) -> int:
        """Send what is new of the streams; how many points.

        A resumed attempt writes the steps after its checkpoint a second time, with equal values
        and another time of day; those that the server has from the attempt before are left out.
        """
        if mine.tail.attempt not in (None, attempt):
            found = self._remote.server.run(remote.run_id)
            if found is not None:
                remote.floors = found.floors
        lines, whole = mine.tail.read(attempt)
        if whole:
            mine.barred = dict(remote.floors)
        read = (p for line in lines for p in points_of(line))
        points = not_sent(as_in_azure(read) if is_azure(self._uri) else read, mine.barred)
        self._remote.server.send_points(remote, points)
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
            self._remote.server.send_tags(remote, params_and_tags.platform_tags(platform))
        if is_azure(self._uri):
            place = f"{self._mailbox.store.url}/{self._mailbox.key(f'runs/{stored.run}/')}"
            self._remote.server.send_tags(remote, {"drillyard.results": place})
            return note  # it stores none of our files: the tag names their place
        if any(as_object(t).get("url") == "mlflow" for t in as_list(record.spec.get("store"))):
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
                    self._remote.server.send_file(remote.run_id, path, name)
                    artifacts[name] = entry.sha256
                    sent.artifacts += 1
        if large:
            tag = {"drillyard.artifacts_left_out": ", ".join(large)}
            self._remote.server.send_tags(remote, tag)
        return note.model_copy(update={"artifacts": artifacts})

    # -- inside -------------------------------------------------------------------------------

    def _experiment(self, record: ExperimentRecord) -> RemoteRun:
        """The run on the server above all others."""
        tags = params_and_tags.experiment_tags(record, self._mailbox.store.url)
        return self._remote.ensure(PARENT, record.name, tags, record.created_at)

    def _ensure(self, record: ExperimentRecord, run: RunRecord, parent: RemoteRun) -> RemoteRun:
        """A run on the server, below its trial where there is a study."""
        if _is_study(record):
            parent = self._trials.ensure(record, run.trial, parent)
        tags = params_and_tags.run_tags(record, run, self._mailbox.store.url)
        return self._remote.ensure(run.run, run.name or run.run, tags, None, parent)


def _is_study(record: ExperimentRecord) -> bool:
    return bool(record.spec.get("study"))
