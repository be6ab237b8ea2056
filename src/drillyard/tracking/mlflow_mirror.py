"""Replays an experiment's mailbox to MLflow on request; the engine of the mirror.

One parent run an experiment, one child run a run, and in a study one a trial between them, found
again by what the mailbox noted or by their tags. What the server has decides what is sent, so a
mirror that was killed anywhere, or two at once, leave one copy of every point.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from drillyard.documents.json_types import as_list, as_object
from drillyard.errors import CorruptObject, DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, ExperimentRecord, Phase, RunRecord
from drillyard.system.redaction import redact_tree
from drillyard.tracking import params_and_tags, status_map
from drillyard.tracking.points import Point, as_in_azure, changed, new_lines, not_sent, points_of
from drillyard.tracking.remote_runs import Mirrored, RemoteRuns
from drillyard.tracking.server import RemoteRun, Server
from drillyard.tracking.sync_state import PARENT, RunNote
from drillyard.tracking.tracker import MLFLOW, Sent, Standing, Target, Tracker
from drillyard.tracking.trial_runs import TrialLevel
from drillyard.tracking.uris import is_azure

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


class MlflowMirror(Tracker):
    """Mirrors one experiment to one server.

    Args:
        mailbox: What to mirror.
        uri: Where to.
        register_best: Registers the best policy of a finished experiment; None: nothing does.
    """

    def __init__(
        self, mailbox: Mailbox, uri: str, register_best: RegisterBest | None = None
    ) -> None:
        super().__init__(mailbox, Target(MLFLOW, uri))
        self._register_best = register_best
        self._uri = uri
        self._remote = RemoteRuns(mailbox, uri)
        self._trials = TrialLevel(mailbox, self._remote)

    def link(self) -> str | None:
        """Where a browser sees the experiment, or None for a database."""
        return self._remote.link(PARENT)

    def ensure_run(self, run: str) -> tuple[Server, str]:
        """The server and the id there of a run, which is made when it is not there.

        Raises:
            DrillyardError: The server cannot be reached, or refuses.
        """
        record = self.mailbox.experiment_record()
        remote = self._ensure(record, self.mailbox.run(run), self._experiment(record))
        return self._remote.server, remote.run_id

    # -- the whole experiment -----------------------------------------------------------------

    def send(self, sent: Sent, *, trust: bool) -> None:
        """Send what the server does not have; see ``Tracker``."""
        now = self.standing()
        sent.runs = len(now.runs)
        parent = self._experiment(now.record)
        study = _is_study(now.record)
        if study:
            self._trials.load()
        for name, run in now.runs.items():
            if trust and self._remote.is_done(name, now.words[name]):
                continue
            mirrored = self._remote.known(name)
            try:
                remote = self._ensure(now.record, run, parent)
                self._mirror_run(now, run, mirrored, remote, sent)
            except DrillyardError as error:
                mirrored.forget()
                if not isinstance(error, CorruptObject):
                    raise
                sent.problems.append(error)  # this run's; the others go on
        if study:
            sent.points += self._trials.mirror(now, parent, trust=trust)
            state = self.mailbox.study_state()
            word = status_map.study_word(list(now.words.values()), state, now.alive)
            points, tags = self._trials.study_points(), self._trials.study_tags(state)
        else:
            word = status_map.parent_word(list(now.words.values()))
            points, tags = self._means(now), {}
        self._mirror_parent(now.record, parent, word, points, tags, sent)
        self._register(now.record, word, sent, trust)

    def _means(self, now: Standing) -> list[Point]:
        """Means over the seeds that have finished."""
        finished = [name for name, word in now.words.items() if word == "FINISHED"]
        accepted = (self.mailbox.accepted(name, Phase.EVALUATE) for name in finished)
        return params_and_tags.parent_points(a for a in accepted if a is not None)

    def _register(self, record: ExperimentRecord, word: str, sent: Sent, trust: bool) -> None:
        """Registers the best policy once every run is finished, if the experiment requests it."""
        name = as_object(record.spec.get("tracking")).get("register_as")
        if not isinstance(name, str) or word != "FINISHED" or self._register_best is None:
            return
        note = self._remote.known(PARENT).note
        if note is not None and not (trust and note.registered):
            registered = self._register_best(self.mailbox, sorted(self._records), name, self._uri)
            note = self._remote.note_down(PARENT, note.run_id, registered=registered)
        sent.registered = note.registered if note is not None else ""

    def _mirror_parent(
        self,
        record: ExperimentRecord,
        remote: RemoteRun,
        word: str,
        points: list[Point],
        tags: dict[str, str],
        sent: Sent,
    ) -> None:
        server, best = self._remote.server, self._remote.known(PARENT)
        self._remote.tell(best, remote, params_and_tags.experiment_params(record), tags)
        sent.points += server.send_points(remote, changed(points, remote.floors, remote.values))
        files = {} if is_azure(self._uri) else self._parent_files(record)
        artifacts = dict(best.note.artifacts) if best.note is not None else {}
        for name, data in files.items():
            write = partial(Path.write_bytes, data=data)
            self._send_file(remote, name, sha256_hex(data), write, artifacts, sent)
        self._remote.set_status(remote, word, None)
        self._remote.note_down(
            PARENT,
            remote.run_id,
            artifacts=artifacts,
            status=word,
            points=len(remote.floors),
            link=self._remote.link(PARENT),
            done=word not in ("RUNNING", "SCHEDULED"),
        )

    def _parent_files(self, record: ExperimentRecord) -> dict[str, bytes]:
        """The experiment as it was resolved, and its report."""
        spec = json.dumps(redact_tree(record.spec), indent=1, sort_keys=True)
        files: dict[str, bytes] = {"experiment.json": spec.encode()}
        for info in self.mailbox.store.list(self.mailbox.key("report/")):
            name = info.key[len(self.mailbox.key("")) :]
            if info.size <= MAX_ARTIFACT_BYTES:
                files[name] = self.mailbox.store.get(info.key)
        return files

    # -- one run ------------------------------------------------------------------------------

    def _mirror_run(
        self, now: Standing, run: RunRecord, mirrored: Mirrored, remote: RemoteRun, sent: Sent
    ) -> None:
        server, word = self._remote.server, now.words[run.run]
        note = mirrored.note or RunNote(run=run.run, run_id=remote.run_id)
        accepted = {p: self.mailbox.accepted(run.run, p) for p in Phase}
        trained = accepted[Phase.TRAIN]
        tags = status_map.ending_tags(now.states, run.run)
        params = params_and_tags.run_params(now.record, run, trained)
        self._remote.tell(mirrored, remote, params, tags)
        if word == "RUNNING":
            self._remote.set_status(remote, word, None)

        points = self._send_curves(mirrored, remote)
        ends = params_and_tags.end_points(trained, accepted[Phase.EVALUATE])
        points += server.send_points(remote, not_sent(ends, remote.floors))
        sent.points += points

        attempt, artifacts = mirrored.reader.attempt, dict(note.artifacts)
        if (stored := accepted[Phase.STORE]) is not None:
            self._send_artifacts(now.record, stored, remote, artifacts, sent)
        ended_at = max((a.ended_at for a in accepted.values() if a is not None), default=None)
        self._remote.set_status(remote, word, ended_at if word == "FINISHED" else None)
        ended = word not in ("RUNNING", "SCHEDULED")
        if ended:
            mirrored.reader = mirrored.reader.restarted()  # keeps no lines in memory
        self._remote.note_down(
            run.run,
            remote.run_id,
            attempt=attempt,
            points=note.points + points,
            artifacts=artifacts,
            status=word,
            done=ended,
        )

    def _send_curves(self, mirrored: Mirrored, remote: RemoteRun) -> int:
        """Send what is new of the streams; how many points.

        A resumed attempt writes the steps after its checkpoint a second time, with equal values
        and another time of day; those that the server has from the attempt before are left out.
        """
        before = mirrored.reader.attempt
        lines = new_lines(mirrored.reader)
        if mirrored.reader.attempt != before:
            there = None if before is None else self._remote.server.run(remote.run_id)
            if there is not None:
                remote.floors = there.floors
            mirrored.barred = dict(remote.floors)
        read = (p for line in lines for p in points_of(line))
        points = not_sent(as_in_azure(read) if is_azure(self._uri) else read, mirrored.barred)
        return self._remote.server.send_points(remote, points)

    def _send_artifacts(
        self,
        record: ExperimentRecord,
        stored: Accepted,
        remote: RemoteRun,
        artifacts: dict[str, str],
        sent: Sent,
    ) -> None:
        manifest = self.mailbox.manifest(stored)
        if "platform.json" in manifest.files:
            platform = json.loads(self.mailbox.read_file(manifest, "platform.json"))
            self._remote.server.send_tags(remote, params_and_tags.platform_tags(platform))
        if is_azure(self._uri):
            place = f"{self.mailbox.store.url}/{self.mailbox.key(f'runs/{stored.run}/')}"
            self._remote.server.send_tags(remote, {"drillyard.results": place})
            return  # it stores none of our files: the tag names their place
        if any(as_object(t).get("url") == "mlflow" for t in as_list(record.spec.get("store"))):
            return  # the store phase has written the user's choice of files, and verified it
        large = []
        for name, entry in manifest.files.items():
            if not any(fnmatch(name, glob) for glob in RUN_ARTIFACTS):
                continue
            if entry.size > MAX_ARTIFACT_BYTES:
                large.append(name)
            else:
                fetch = partial(fetch_file, self.mailbox, entry)
                self._send_file(remote, name, entry.sha256, fetch, artifacts, sent)
        if large:
            tag = {"drillyard.artifacts_left_out": ", ".join(large)}
            self._remote.server.send_tags(remote, tag)

    def _send_file(
        self,
        remote: RemoteRun,
        name: str,
        sha256: str,
        write: Callable[[Path], object],
        artifacts: dict[str, str],
        sent: Sent,
    ) -> None:
        """Sends a file unless the server has it, and adds it to the artifacts that it has."""
        if artifacts.get(name) == sha256:
            return
        with tempfile.TemporaryDirectory(prefix="drillyard-mirror-") as folder:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            self._remote.server.send_file(remote.run_id, path, name)
        artifacts[name] = sha256
        sent.artifacts += 1

    # -- inside -------------------------------------------------------------------------------

    def _experiment(self, record: ExperimentRecord) -> RemoteRun:
        """The run on the server above all others."""
        tags = params_and_tags.experiment_tags(record, self.mailbox.store.url)
        return self._remote.ensure(PARENT, record.name, tags, record.created_at)

    def _ensure(self, record: ExperimentRecord, run: RunRecord, parent: RemoteRun) -> RemoteRun:
        """A run on the server, below its trial where there is a study."""
        if _is_study(record):
            parent = self._trials.ensure(record, run.trial, parent)
        tags = params_and_tags.run_tags(record, run, self.mailbox.store.url)
        return self._remote.ensure(run.run, run.name or run.run, tags, None, parent)


def _is_study(record: ExperimentRecord) -> bool:
    return bool(record.spec.get("study"))
