"""What a tracking server lacks, and the experiments of this machine that it lacks something of.

A session ends before a slow or dead server has everything. It then leaves a note in the home
folder, ``tracking/<digest>.json``, which whoever completes the mirror removes: the process that
goes on sending, ``drillyard sync``, or ``drillyard reap`` and the reaper's flow.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from drillyard.documents.json_types import JsonObject, as_object
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Record
from drillyard.mailbox.ticket_states import run_status, ticket_states
from drillyard.system.files import write_file
from drillyard.system.home import local_home
from drillyard.system.lists import few
from drillyard.tracking import status_map
from drillyard.tracking.sync_state import PARENT, Notes
from drillyard.tracking.tracker import MLFLOW, Target, title
from drillyard.tracking.uris import digest, mask, resolve_uri

_SHOWN = 5
log = logging.getLogger(__name__)


class Behind(Record):
    """``tracking/<digest>.json`` in the home folder."""

    store_url: str
    experiment: str
    server: str
    """Digest of the server's address."""
    tracker: str = MLFLOW


@dataclass(frozen=True)
class Lacking:
    """What a server lacks of an experiment.

    Attributes:
        uri: The server, credentials masked.
        tracker: Registered name of the tracker.
        runs: Runs that have ended and were not sent completely.
        ended: Number of runs that have ended.
        whole: The experiment's own page was not completed.
    """

    uri: str
    tracker: str
    runs: tuple[str, ...]
    ended: int
    whole: bool

    def __bool__(self) -> bool:
        """True if something is missing."""
        return bool(self.runs) or self.whole

    def sentence(self, experiment: str) -> str:
        """It in words, with the command that sends the rest."""
        names = few(self.runs, _SHOWN, ", …")
        what = f"{len(self.runs)} of {self.ended} ended runs ({names})" if self.runs else ""
        what = what or "the last state of the experiment"
        where = f"{title(self.tracker)} at {self.uri}"
        return f"{where} lacks {what}; `drillyard sync {experiment}` sends it"


def target(mailbox: Mailbox) -> str | None:
    """The tracking server of an experiment; None where tracking is off or has no address here."""
    setting = as_object(mailbox.experiment_record().spec.get("tracking")).get("mlflow")
    return resolve_uri(setting if isinstance(setting, str) else None, mailbox.store.url)


def targets(mailbox: Mailbox) -> list[Target]:
    """Every place that an experiment is copied to from here.

    Args:
        mailbox: The experiment.
    """
    uri = target(mailbox)
    mlflow = [] if uri is None else [Target(MLFLOW, uri)]
    return mlflow + other_targets(as_object(mailbox.experiment_record().spec.get("tracking")))


def other_targets(tracking: JsonObject) -> list[Target]:
    """The places beside MLflow that the section ``tracking`` of an experiment names."""
    plugins = as_object(tracking.get("plugins"))
    named = {"wandb": tracking.get("wandb"), "csv": tracking.get("csv"), **plugins}
    return [Target(name, where) for name, where in named.items() if isinstance(where, str)]


def lacking(mailbox: Mailbox, place: Target) -> Lacking:
    """Compare the notes about a server with the experiment; the server is not asked.

    Args:
        mailbox: The experiment.
        place: The place.

    Raises:
        InfrastructureError: The mailbox cannot be read.
    """
    notes, states = Notes(mailbox, place.key), ticket_states(mailbox)
    runs = sorted({state.ticket.run for state in states.values()})
    ended = [run for run in runs if run_status(states, run).ended]
    missing = []
    for run in ended:
        note = notes.read(run)
        word = status_map.word(states, run, alive=False)
        if note is None or not note.is_done(word):
            missing.append(run)
    parent = notes.read(PARENT)
    whole = len(ended) == len(runs) > 0 and (parent is None or not parent.done)
    return Lacking(mask(place.address), place.tracker, tuple(missing), len(ended), whole)


def note(mailbox: Mailbox, place: Target) -> None:
    """Note that a place may lack something of an experiment."""
    path = _path(mailbox, place.tracker)
    record = Behind(
        store_url=mailbox.store.url,
        experiment=mailbox.experiment,
        server=digest(place.key),
        tracker=place.tracker,
    )
    try:
        write_file(path, record.to_bytes())
    except OSError as error:
        log.debug("%s cannot be written: %s", path, error)  # `status` says it all the same


def forget(mailbox: Mailbox, tracker: str) -> None:
    """Remove the note: the place has everything."""
    _path(mailbox, tracker).unlink(missing_ok=True)


def forget_all(mailbox: Mailbox) -> None:
    """Remove the notes about every place: the experiment is gone."""
    for record in behind():
        if (record.store_url, record.experiment) == (mailbox.store.url, mailbox.experiment):
            forget(mailbox, record.tracker)


def behind() -> list[Behind]:
    """The experiments that this machine has notes of."""
    records = []
    for path in sorted((local_home() / "tracking").glob("*.json")):
        try:
            records.append(Behind.from_bytes(path.read_bytes()))
        except (OSError, CorruptObject):
            continue
    return records


def _path(mailbox: Mailbox, tracker: str) -> Path:
    place = "" if tracker == MLFLOW else f"\n{tracker}"
    name = sha256_hex(f"{mailbox.store.url}\n{mailbox.experiment}{place}".encode())[:16]
    return local_home() / "tracking" / f"{name}.json"
