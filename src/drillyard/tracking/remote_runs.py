"""The runs on the server that represent parts of a mailbox: found or created, updated, closed.

The mailbox's notes and the server's tags decide whether a run exists, so that two mirrors
at once, or one that was killed anywhere, leave one run of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from drillyard.errors import UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.metrics.reader import StreamReader
from drillyard.system.clock import SYSTEM
from drillyard.tracking import params_and_tags
from drillyard.tracking.server import RemoteRun, Server, artifact_folder
from drillyard.tracking.sync_state import Notes, RunNote
from drillyard.tracking.uris import local_folder


@dataclass
class Mirrored:
    """This process's state of a mirrored run."""

    reader: StreamReader
    remote: RemoteRun | None = None
    note: RunNote | None = None
    sent: str = ""
    """Fingerprint of the parameters and tags that were sent."""
    barred: dict[str, int] = field(default_factory=dict)
    """Metric -> greatest step that the server had when this attempt was read first."""

    def forget(self) -> None:
        """Forgets the server's state: the effect of an unanswered request is unknown."""
        self.remote, self.sent, self.reader = None, "", self.reader.restarted()


class RemoteRuns:
    """The runs of one experiment on one server, which is opened when it is first needed.

    Args:
        mailbox: The experiment.
        uri: The server.
    """

    def __init__(self, mailbox: Mailbox, uri: str) -> None:
        self._mailbox = mailbox
        self._uri = uri
        self._notes = Notes(mailbox, uri)
        self._known: dict[str, Mirrored] = {}
        self._server: Server | None = None
        self._experiment_id = ""

    @property
    def server(self) -> Server:
        """The server.

        Raises:
            DrillyardError: It cannot be reached, or MLflow is not installed.
        """
        if self._server is None:
            folder = artifact_folder(self._uri, local_folder(self._mailbox.store.url))
            self._server = Server(self._uri, folder)
        return self._server

    def known(self, name: str) -> Mirrored:
        """What this process knows of a run; an empty record at first."""
        if name not in self._known:
            self._known[name] = Mirrored(StreamReader(self._mailbox, name, again=True))
        return self._known[name]

    def ensure(
        self,
        name: str,
        title: str,
        tags: dict[str, str],
        started_at: float | None,
        parent: RemoteRun | None = None,
    ) -> RemoteRun:
        """The run on the server, made when it is not there; asked once a process and run.

        Args:
            name: In the mailbox: a run, a trial, or the experiment.
            title: What people see.
            tags: Which one it is.
            started_at: Unix seconds; None: now.
            parent: The run above it.
        """
        mirrored = self.known(name)
        if mirrored.remote is not None:
            return mirrored.remote
        server, experiment = self.server, self._mailbox.experiment
        self._experiment_id = self._experiment_id or server.experiment(experiment)
        noted = self._notes.tracked(name)
        remote = None if noted is None else server.run(noted)
        if remote is None:
            if parent is not None:
                tags = {**tags, params_and_tags.PARENT_TAG: parent.run_id}
            began = SYSTEM.now() if started_at is None else started_at
            remote = self._make(name, title, tags, began, replace=noted is not None)
        if parent is not None:  # one that an older version made may hang elsewhere
            server.send_tags(remote, {params_and_tags.PARENT_TAG: parent.run_id})
        note = self._notes.read(name)
        mirrored.remote = remote
        mirrored.note = note if note is not None and note.run_id == remote.run_id else None
        return remote

    def _make(
        self, name: str, title: str, tags: dict[str, str], began: float, *, replace: bool
    ) -> RemoteRun:
        """The run that another mirror has made, or a new one."""
        server, keys = self.server, params_and_tags
        names = {keys.MAILBOX_TAG: self._notes.mailbox_id(), keys.NAME_TAG: name}
        existing = server.find(self._experiment_id, names)
        first = existing[:1] or [server.create(self._experiment_id, title, tags | names, began)]
        counts = self._notes.track(name, first[0], replace=replace)
        if counts != first[0] and not existing:
            server.delete(first[0])  # another mirror was first
        remote = server.run(counts) or server.run(first[0])
        if remote is None:
            raise UserError(
                f"run {name} was deleted in MLflow while it was being mirrored",
                hint="sync again",
            )
        return remote

    def tell(
        self, mirrored: Mirrored, remote: RemoteRun, params: dict[str, str], tags: dict[str, str]
    ) -> None:
        """Sends parameters and tags, unless they were sent before."""
        digest = sha256_hex(json.dumps([params, tags], sort_keys=True).encode())
        if digest != mirrored.sent:
            self.server.send_params(remote, params)
            self.server.send_tags(remote, tags)
            mirrored.sent = digest

    def set_status(self, remote: RemoteRun, word: str, ended_at: float | None) -> None:
        """Sends the status of a run if the server has another one."""
        if remote.status != word:
            self.server.set_status(remote.run_id, word, ended_at)
            remote.status = word

    def note_down(self, name: str, run_id: str, **changes: object) -> RunNote:
        """Remembers what was sent of a run; returns the note."""
        mirrored = self.known(name)
        before = mirrored.note or RunNote(run=name, run_id=run_id)
        note = before.model_copy(update=changes)
        if note != mirrored.note:
            note = mirrored.note = note.model_copy(update={"written_at": SYSTEM.now()})
            self._notes.write(note)
        return note

    def is_done(self, name: str, word: str) -> bool:
        """Returns whether a run has ended with this status and was sent completely."""
        note = self.note(name)
        return note is not None and note.is_done(word)

    def note(self, name: str) -> RunNote | None:
        """What was noted about a run, or None."""
        known = self._known.get(name)
        return known.note if known is not None else self._notes.read(name)

    def link(self, name: str) -> str | None:
        """Where a browser sees a run, or None for a database."""
        if self._server is None or not self._experiment_id:
            return None
        known = self._known.get(name)
        remote = None if known is None else known.remote
        return self._server.link(self._experiment_id, remote.run_id if remote else None)
