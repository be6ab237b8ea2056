"""The records of an experiment in a store, and their keys.

Rules: each object has one writer; put-if-absent is the only lock; a worker writes only under its
own attempt, and accepts a result only after it has read its claim again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import secrets
from collections.abc import Container, Iterable, Iterator

from drillyard.errors import CorruptObject, NewerVersion, NotFound, Superseded
from drillyard.mailbox.folder import Folder
from drillyard.mailbox.records import (
    Accepted,
    Board,
    Cancel,
    Claim,
    DriverRecord,
    Ending,
    ExperimentRecord,
    FileEntry,
    Manifest,
    MoreSeeds,
    Phase,
    Reopened,
    RunRecord,
    StudyState,
    TicketRecord,
    TrialOutcome,
    TrialRecord,
    WorkerRecord,
)
from drillyard.mailbox.store import ObjectInfo, ObjectMissing, has_stamps, keys, stamp

_TRIAL = re.compile(r"/trials/t(?P<number>\d+)(?P<part>|\.outcome|\.more)\.json\Z")
_TRIAL_PARTS: dict[str, type[TrialRecord | TrialOutcome | MoreSeeds]] = {
    "": TrialRecord,
    ".outcome": TrialOutcome,
    ".more": MoreSeeds,
}
TrialCache = dict[str, tuple[ObjectInfo, TrialRecord | TrialOutcome | MoreSeeds]]
"""What ``Mailbox.trials`` has read, by key."""
WorkerCache = dict[str, tuple[ObjectInfo, WorkerRecord]]
"""What ``Mailbox.workers`` has read, by key: the entry of the newest listing, and the record."""
_DRIVER = re.compile(r"/driver/(?P<number>\d+)\.json\Z")
_CLAIM = re.compile(r"(?P<ticket>[^/]+)\.(?P<attempt>\d+)(?P<ended>\.ended)?\.json\Z")

log = logging.getLogger(__name__)


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def run_id(trial: int, seed: int) -> str:
    """``t0001-s42``."""
    return f"t{trial:04d}-s{seed}"


def trial_id(trial: int) -> str:
    """``t0001``."""
    return f"t{trial:04d}"


def ticket_id(run: str, phase: Phase) -> str:
    """``t0001-s42.train``."""
    return f"{run}.{phase.value}"


def new_token() -> str:
    """A random text that distinguishes one claimer from another."""
    return secrets.token_hex(8)


def sha256_hex(data: bytes) -> str:
    """sha256 of bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class Mailbox(Folder):
    """An experiment's folder.

    Args:
        store: The place.
        experiment: The experiment's name: the folder in it.
    """

    @staticmethod
    def attempt_path(run: str, phase: Phase, attempt: int) -> str:
        """The only folder that an attempt writes to (no trailing slash)."""
        return f"runs/{run}/attempts/{phase.value}-{attempt}"

    # -- experiment ---------------------------------------------------------------------------

    def experiment_record(self) -> ExperimentRecord:
        """``experiment.json``.

        Raises:
            NotFound: The store has no experiment of this name.
        """
        record = self.read("experiment.json", ExperimentRecord)
        if record is None:
            raise NotFound(f"no experiment {self.experiment!r} in {self.store.url}")
        return record

    def run(self, run: str) -> RunRecord:
        """``runs/<run>/run.json``.

        Raises:
            NotFound: No such run.
        """
        record = self.read(f"runs/{run}/run.json", RunRecord)
        if record is None:
            known = ", ".join(r.run for r in self.runs()) or "none"
            raise NotFound(f"no run {run!r} in {self.experiment!r}", hint=f"runs: {known}")
        return record

    def runs(self) -> Iterator[RunRecord]:
        """Every run, by id."""
        prefix = self.key("runs/")
        for info in self.store.list(prefix):
            if info.key.endswith("/run.json") and info.key.count("/") == prefix.count("/") + 1:
                yield self.record_at(info.key, RunRecord)

    # -- trials -------------------------------------------------------------------------------

    def trials(
        self, cache: TrialCache | None = None
    ) -> tuple[list[TrialRecord], dict[int, TrialOutcome], dict[int, MoreSeeds]]:
        """The trials in order, their outcomes, and the seeds that were added; by number.

        Args:
            cache: Kept by the caller between calls, so that a call reads only what has changed.
        """
        cache = {} if cache is None else cache
        chosen: list[TrialRecord] = []
        outcomes: dict[int, TrialOutcome] = {}
        more: dict[int, MoreSeeds] = {}
        for info in self.store.list(self.key("trials/")):
            match = _TRIAL.search(info.key)
            if match is None:
                continue
            if info.key not in cache or cache[info.key][0] != info:
                part_record = self.record_at(info.key, _TRIAL_PARTS[match["part"]])
                cache[info.key] = (info, part_record)
            record, number = cache[info.key][1], int(match["number"])
            if isinstance(record, TrialRecord):
                chosen.append(record)
            elif isinstance(record, TrialOutcome):
                outcomes[number] = record
            else:
                more[number] = record
        return sorted(chosen, key=lambda t: t.number), outcomes, more

    def trial(self, number: int) -> TrialRecord | None:
        """``trials/t0001.json``; None if the experiment is not a study."""
        return self.read(f"trials/{trial_id(number)}.json", TrialRecord)

    def choose(self, trial: TrialRecord) -> bool:
        """Freeze a trial; False when its number is taken."""
        return self.create(f"trials/{trial_id(trial.number)}.json", trial)

    def add_seeds(self, trial: int, more: MoreSeeds) -> None:
        """Write the seeds that were added to a trial."""
        self.write(f"trials/{trial_id(trial)}.more.json", more)

    def end_trial(self, outcome: TrialOutcome) -> None:
        """Write how a trial ended."""
        self.write(f"trials/{trial_id(outcome.number)}.outcome.json", outcome)

    def study_state(self) -> StudyState | None:
        """The progress of the study; None without a study."""
        return self.read("study.json", StudyState)

    def write_study_state(self, state: StudyState) -> None:
        """Write the progress of the study."""
        self.write("study.json", state)

    # -- tickets ------------------------------------------------------------------------------

    def post(self, ticket: TicketRecord) -> bool:
        """Post a ticket; False if it exists already."""
        return self.create(f"queue/{ticket.ticket}.json", ticket)

    def tickets(self) -> list[TicketRecord]:
        """Every ticket ever posted, in queue order."""
        records = [
            self.record_at(info.key, TicketRecord) for info in self.store.list(self.key("queue/"))
        ]
        return sorted(records, key=lambda t: (t.order, t.ticket))

    def ticket_keys(self) -> Iterator[str]:
        """One listing: the key of every ticket ever posted, for ``ticket_of``."""
        return keys(self.store, self.key("queue/"))

    @staticmethod
    def ticket_of(key: str) -> str:
        """The id of a ticket from its key."""
        return key.rsplit("/", 1)[-1].removesuffix(".json")

    def ticket_ids(self) -> Iterator[str]:
        """One listing: the id of every ticket ever posted."""
        return map(self.ticket_of, self.ticket_keys())

    def ticket(self, ticket: str) -> TicketRecord:
        """``queue/<ticket>.json``.

        Raises:
            NotFound: No such ticket.
        """
        record = self.read(f"queue/{ticket}.json", TicketRecord)
        if record is None:
            raise NotFound(f"no ticket {ticket!r} in {self.experiment!r}")
        return record

    def claim(self, claim: Claim) -> bool:
        """Take a ticket's attempt; True for exactly one claimer."""
        return self.create(f"claims/{claim.ticket}.{claim.attempt}.json", claim)

    def stamp(self, folder: str) -> str | None:
        """See ``store.stamp``, for ``claims/``, ``queue/`` or ``board/``."""
        return stamp(self.store, self.key(folder))

    def claim_keys(self, named: str = "") -> Iterator[str]:
        """One listing: the key of every claim and ending, for ``claim_of``.

        Args:
            named: Prefix of the tickets.
        """
        return keys(self.store, self.key(f"claims/{named}"))

    def claim_key(self, ticket: str, attempt: int, *, ended: bool) -> str:
        """The key of a claim, or of its ending."""
        return self.key(f"claims/{ticket}.{attempt}{'.ended' if ended else ''}.json")

    @staticmethod
    def claim_of(key: str) -> tuple[str, int, bool] | None:
        """(ticket, attempt, ended) of the key of a claim or ending; None for other keys."""
        match = _CLAIM.match(key.rsplit("/", 1)[-1])
        return (match["ticket"], int(match["attempt"]), bool(match["ended"])) if match else None

    def claims(self) -> Iterator[tuple[str, int, bool]]:
        """One listing: (ticket, attempt, ended) of every claim and ending."""
        return (claim for key in self.claim_keys() if (claim := self.claim_of(key)))

    def read_claim(self, ticket: str, attempt: int) -> Claim | None:
        """A claim, or None."""
        return self.read(f"claims/{ticket}.{attempt}.json", Claim)

    def end(self, ending: Ending) -> bool:
        """Write how an attempt ended; False if its ending was written before."""
        return self.create(f"claims/{ending.ticket}.{ending.attempt}.ended.json", ending)

    def ending(self, ticket: str, attempt: int) -> Ending | None:
        """How an attempt ended, or None while it may be running."""
        return self.read(f"claims/{ticket}.{attempt}.ended.json", Ending)

    def reopened(self) -> Reopened:
        """Endings that no longer count, because the user repeated the command."""
        return self.read("control/reopened.json", Reopened) or Reopened()

    def cancelled(self) -> Cancel | None:
        """The order to stop, or None.

        An order that cannot be read (damaged, or of a newer version) says neither what runs to
        stop nor that there is nothing to stop for. So it counts as the gentler one: no ticket is
        claimed, and what runs may finish. A person decides: ``drillyard cancel`` replaces it, and
        the same ``drillyard run`` removes it.
        """
        try:
            data = self.store.get(self.key("control/cancel.json"))
        except ObjectMissing:
            return None
        try:
            return Cancel.from_bytes(data)
        except (CorruptObject, NewerVersion) as error:
            reason = f"an order to stop that cannot be read: {error.message}"
            return Cancel(reason=reason, by="", drain=True, written_at=0.0)

    # -- results ------------------------------------------------------------------------------

    def accepted(self, run: str, phase: Phase) -> Accepted | None:
        """The accepted result of a phase, or None."""
        return self.read(f"runs/{run}/{phase.value}.accepted.json", Accepted)

    def accept(self, claim: Claim, accepted: Accepted) -> bool:
        """Make a result the one that readers follow.

        Args:
            claim: The claim of the work. It is read again here, so that a superseded worker
                overwrites nothing.
            accepted: What to accept.

        Returns:
            True if this result is the accepted one (also in a second call).

        Raises:
            Superseded: The claim belongs to another worker, or was closed as lost.
        """
        self.must_own(claim)
        return self.create(f"runs/{accepted.run}/{accepted.phase.value}.accepted.json", accepted)

    def must_own(self, claim: Claim) -> None:
        """Check that an attempt is still ours.

        Raises:
            Superseded: It is not.
        """
        now = self.read_claim(claim.ticket, claim.attempt)
        if now is None or now.token != claim.token:
            raise Superseded(
                f"attempt {claim.attempt} of {claim.ticket} belongs to another worker"
            )
        ending = self.ending(claim.ticket, claim.attempt)
        if ending is not None and ending.status != "SUCCEEDED":
            raise Superseded(f"attempt {claim.attempt} of {claim.ticket} was ended by {ending.by}")

    def result(self, run: str, phase: Phase) -> Manifest:
        """The manifest of the accepted result of a phase, its hash checked.

        Raises:
            NotFound: Nothing is accepted.
            CorruptObject: The manifest is missing or not what was accepted.
        """
        accepted = self.accepted(run, phase)
        if accepted is None:
            raise NotFound(f"run {run} has no accepted result of `{phase.value}`")
        return self.manifest(accepted)

    def manifest(self, accepted: Accepted) -> Manifest:
        """The manifest of an accepted result, its hash checked.

        Raises:
            CorruptObject: The manifest is missing or not what was accepted.
        """
        try:
            data = self.store.get(self.key(accepted.manifest))
        except ObjectMissing:
            raise CorruptObject(f"manifest {accepted.manifest} is missing") from None
        if sha256_hex(data) != accepted.manifest_sha256:
            raise CorruptObject(f"manifest {accepted.manifest} was changed after it was accepted")
        return Manifest.from_bytes(data)

    def read_file(self, manifest: Manifest, name: str) -> bytes:
        """A file of a manifest, its hash checked.

        Raises:
            NotFound: The manifest has no such file.
            CorruptObject: The object is missing or was changed.
        """
        entry = manifest.files.get(name)
        if entry is None:
            known = ", ".join(sorted(manifest.files))
            raise NotFound(f"no file {name!r} in this result", hint=f"files: {known}")
        return self.read_entry(entry)

    def read_entry(self, entry: FileEntry) -> bytes:
        """A stored file, its size and hash checked.

        Raises:
            CorruptObject: The object is missing or was changed.
        """
        try:
            data = self.store.get(self.key(entry.key))
        except ObjectMissing:
            raise CorruptObject(f"{entry.key} is missing from {self.store.url}") from None
        if len(data) != entry.size or sha256_hex(data) != entry.sha256:
            raise CorruptObject(f"{entry.key} was changed: its sha256 is not the manifest's")
        return data

    # -- liveness -----------------------------------------------------------------------------

    def board(self, run: str) -> Board | None:
        """The last heartbeat of the process that works on a run."""
        return self.read(f"board/{run}.json", Board)

    def boards(
        self, runs: Iterable[str] | None = None
    ) -> Iterator[tuple[str, ObjectInfo, Board | None]]:
        """One listing: run, entry, and heartbeat, or None where ``board`` has to read it.

        Args:
            runs: Those that the reader needs, if not all. A store on a disk looks only these up:
                in a study, a few of thousands. Elsewhere one listing is cheaper.
        """
        if runs is not None and has_stamps(self.store):
            for run in runs:
                info = self.store.stat(self.key(f"board/{run}.json"))
                if info is not None:
                    yield run, info, None
            return
        for info, board in self.listed("board/", Board):
            yield info.key.rpartition("/")[2].removesuffix(".json"), info, board

    def age(self, path: str) -> float | None:
        """Seconds since an object was written, by the store's own clock; None when missing."""
        info = self.store.stat(self.key(path))
        return None if info is None else self.store.now() - info.updated_at

    def workers(
        self,
        cache: WorkerCache | None = None,
        settled: Container[str] = (),
        named: str = "",
    ) -> list[WorkerRecord]:
        """Every worker that ever wrote its record; see ``each_worker``."""
        return list(self.each_worker(cache, settled, named))

    def each_worker(
        self,
        cache: WorkerCache | None = None,
        settled: Container[str] = (),
        named: str = "",
    ) -> Iterator[WorkerRecord]:
        """Every worker that ever wrote its record, read one after the other.

        Args:
            cache: Kept by the caller between calls, so that a call reads only what has changed.
            settled: States in which a worker is not read again. With hundreds of workers, many
                records change every few seconds, and the listing shows a heartbeat as well.
            named: Prefix of the ids.
        """
        cache = {} if cache is None else cache
        for info, listed in self.listed(f"workers/{named}", WorkerRecord):
            before, record = cache.get(info.key, (None, None))
            if listed is not None:
                record = listed
            elif record is None or (before != info and record.state not in settled):
                try:
                    record = self.record_at(info.key, WorkerRecord)
                except CorruptObject as error:
                    _warn_once(f"{error.message}; this worker is ignored")
                    continue  # a worker that lives writes its record again within seconds
            cache[info.key] = (info, record)
            yield record

    def driver_numbers(self) -> list[int]:
        """One listing: the number of every driver so far, in no order."""
        driver_keys = keys(self.store, self.key("driver/"))
        return [int(m["number"]) for key in driver_keys if (m := _DRIVER.search(key))]

    def driver(self) -> DriverRecord | None:
        """The newest driver, or None; one listing and one read."""
        newest = max(self.driver_numbers(), default=0)
        return self.read(f"driver/{newest}.json", DriverRecord)

    def drivers(self) -> list[DriverRecord]:
        """Every driver, oldest first."""
        return [
            self.record_at(self.key(f"driver/{number}.json"), DriverRecord)
            for number in sorted(self.driver_numbers())
        ]
