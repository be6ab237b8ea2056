"""The mailbox's notes about its mirrors: the ids of runs, and what was sent.

    tracking/id.json                     a random word: this mailbox, wherever it is moved to
    tracking/<server>/<run>.run.json     the run's id on that server; put-if-absent
    tracking/<server>/<run>.json         what was sent; written after it was

``<server>`` is a digest of the tracking URI, ``<run>`` a run, a trial, or ``experiment``, the
parent of all. A lost note does no harm: the mirror asks the server.
"""

from __future__ import annotations

from pydantic import Field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import Record
from drillyard.tracking.uris import digest, mask

PARENT = "experiment"


class MailboxId(Record):
    """``tracking/id.json``."""

    id: str


class TrackedRun(Record):
    """``tracking/<server>/<run>.run.json``."""

    run: str
    run_id: str
    uri: str
    """The address with masked credentials."""


class RunNote(Record):
    """``tracking/<server>/<run>.json``."""

    run: str
    run_id: str
    attempt: int | None = None
    """Training attempt whose streams were sent."""
    points: int = 0
    outcome: str = ""
    """sha256 of the outcome of a trial that was sent."""
    artifacts: dict[str, str] = Field(default_factory=dict)
    """Path on the server -> sha256."""
    status: str = ""
    """MLflow's word."""
    done: bool = False
    """True: the run has ended and everything is there."""
    link: str | None = None
    """Where a browser sees it; None for a database."""
    registered: str = ""
    """For each policy of the experiment, the version of the model that it became."""
    written_at: float = 0.0

    def is_done(self, word: str) -> bool:
        """Whether the run has ended with this status and everything is there."""
        return self.done and self.status == word


class Notes:
    """The notes about one server.

    Args:
        mailbox: The experiment.
        uri: The server.
    """

    def __init__(self, mailbox: Mailbox, uri: str) -> None:
        self._mailbox = mailbox
        self._uri = uri
        self._folder = f"tracking/{digest(uri)}"

    def mailbox_id(self) -> str:
        """Distinguishes this mailbox from one with the same path on another machine."""
        path = "tracking/id.json"
        record = self._mailbox.read(path, MailboxId)
        if record is None:
            self._mailbox.create(path, MailboxId(id=new_token()))
            record = self._mailbox.read(path, MailboxId)
        assert record is not None
        return record.id

    def tracked(self, run: str) -> str | None:
        """The id on the server of a run, or None."""
        record = self._mailbox.read(f"{self._folder}/{run}.run.json", TrackedRun)
        return None if record is None else record.run_id

    def track(self, run: str, run_id: str, *, replace: bool = False) -> str:
        """Notes a run's id; returns the valid id, which is another mirror's if that was first."""
        path = f"{self._folder}/{run}.run.json"
        record = TrackedRun(run=run, run_id=run_id, uri=mask(self._uri))
        if replace:
            self._mailbox.write(path, record)
            return run_id
        self._mailbox.create(path, record)
        return self.tracked(run) or run_id

    def read(self, run: str) -> RunNote | None:
        """What was sent of a run, or None."""
        return self._mailbox.read(f"{self._folder}/{run}.json", RunNote)

    def page(self) -> str | None:
        """Where a browser sees the experiment, once it was mirrored; None for a database."""
        note = self.read(PARENT)
        return None if note is None else note.link

    def write(self, note: RunNote) -> None:
        """Say what was sent."""
        self._mailbox.write(f"{self._folder}/{note.run}.json", note)
