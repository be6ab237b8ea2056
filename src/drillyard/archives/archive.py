"""An experiment as one file, and back: a ZIP of its objects and a list with their hashes.

    archive.json               ``ArchiveRecord``: name, store, and each object's size and sha256
    objects/<path>             each object, under its path inside the experiment

The file is complete when it has its name: it is written beside it, read back and compared first.
Reading back writes ``experiment.json`` last. So an interrupted one is not an experiment yet, and
the same command finishes it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drillyard.archives.activity import must_be_idle
from drillyard.archives.contents import Contents, contents
from drillyard.errors import ConfigError, CorruptObject, NotFound, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DELETING
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.records import ExperimentRecord, Record
from drillyard.mailbox.store import ObjectMissing
from drillyard.runs.locate import store_url
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.operating_system import link
from drillyard.system.output_files import writing

LIST = "archive.json"
FOLDER = "objects/"
IDENTITY = "experiment.json"
MAX_LIST_BYTES = 256 << 20
"""A larger list of objects is not one of ours."""


class ArchivedObject(Record):
    """An object of an archive."""

    size: int
    sha256: str


class ArchiveRecord(Record):
    """``archive.json``."""

    experiment: str
    store_url: str
    identity: str
    objects: dict[str, ArchivedObject]
    """Path inside the experiment -> what it is."""
    written_at: float


def write_archive(mailbox: Mailbox, out: Path, *, clock: Clock = SYSTEM) -> Contents:
    """Write an experiment into one file. The store is only read.

    Args:
        mailbox: The experiment.
        out: The file; it must not exist.
        clock: For the time in the list.

    Returns:
        What is in it.

    Raises:
        UserError: The file exists, or the experiment may be alive or changes meanwhile.
        CorruptObject: What was written is not what was read.
        StoreUnavailable: The store cannot be read, or the file cannot be written.
    """
    if out.exists():
        raise ConfigError(
            "already exists; nothing was written",
            file="command line",
            field="--out",
            value=str(out),
            hint="choose another name",
        )
    must_be_idle(mailbox, "archive")
    record = mailbox.experiment_record()
    before = contents(mailbox)
    if any(info.key == mailbox.key(DELETING) for info in before.objects):
        raise UserError(
            f"{mailbox.experiment!r} is being deleted, so it is not whole",
            hint="its deletion can only be finished",
        )
    with writing(out, "--out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=".drillyard-", suffix=".zip")
        os.close(descriptor)
        beside = Path(name)
        try:
            listed = _pack(mailbox, before, record, beside, clock)
            if contents(mailbox).objects != before.objects:
                raise UserError(
                    f"{mailbox.experiment!r} changed while it was read; nothing was written",
                    hint="wait until nothing works on it, then repeat the command",
                )
            _verify(beside, listed)
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            _name(beside, out)
        finally:
            beside.unlink(missing_ok=True)
    return before


def _name(beside: Path, out: Path) -> None:
    """Give the finished file its name, without replacing one that was made meanwhile."""
    try:
        link(beside, out)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.replace(beside, out)


def _pack(
    mailbox: Mailbox, found: Contents, record: ExperimentRecord, path: Path, clock: Clock
) -> ArchiveRecord:
    objects: dict[str, ArchivedObject] = {}
    root = mailbox.key("")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".drillyard-") as folder,
    ):
        for info in found.objects:
            inner = info.key.removeprefix(root)
            part = Path(folder) / "object"
            try:
                mailbox.store.download(info.key, part)
            except ObjectMissing:
                raise UserError(
                    f"{inner} went away while the experiment was read; nothing was written",
                    hint="wait until nothing works on it, then repeat the command",
                ) from None
            objects[inner] = ArchivedObject(size=part.stat().st_size, sha256=_sha256(part))
            archive.write(part, FOLDER + inner)
        listed = ArchiveRecord(
            experiment=mailbox.experiment,
            store_url=mailbox.store.url,
            identity=record.identity,
            objects=objects,
            written_at=clock.now(),
        )
        archive.writestr(LIST, listed.to_bytes())
    return listed


def restore(path: Path, store: str | None, *, dry_run: bool = False) -> ArchiveRecord:
    """Read an experiment back from a file into a store; safe to repeat.

    Args:
        path: The file.
        store: ``--store``.
        dry_run: Only check it.

    Returns:
        What is in it.

    Raises:
        UserError: It is not an archive, or the store has an experiment of this name.
        CorruptObject: The file is damaged; nothing was written.
        StoreUnavailable: The store cannot be written: the same call finishes.
    """
    with _opened(path) as archive:
        listed = _list_of(archive, path)
        _verify(path, listed)
        url = store_url(store)
        if dry_run:
            return listed
        mailbox = Mailbox(open_store(url), listed.experiment)
        _must_be_free(mailbox, listed)
        with tempfile.TemporaryDirectory(prefix="drillyard-") as folder:
            # The identity comes last: without it the objects are no experiment.
            for inner in sorted(listed.objects, key=lambda name: (name == IDENTITY, name)):
                part = Path(folder) / "object"
                _extract(archive, inner, listed.objects[inner], part)
                mailbox.store.upload(mailbox.key(inner), part)
    return listed


def _must_be_free(mailbox: Mailbox, listed: ArchiveRecord) -> None:
    keys = {info.key.removeprefix(mailbox.key("")) for info in mailbox.store.list(mailbox.key(""))}
    foreign = keys - listed.objects.keys()
    if IDENTITY in keys or foreign:
        what = "an experiment" if IDENTITY in keys else f"other objects ({min(foreign)})"
        raise UserError(
            f"{mailbox.store.url} already has {what} of the name {mailbox.experiment!r}; nothing "
            "was written",
            hint="choose another store with --store, or delete that one first",
        )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise NotFound(f"no file {path}", hint="name the file that `archive` wrote") from None
    except (zipfile.BadZipFile, IsADirectoryError) as error:
        raise UserError(
            f"{path} is not an archive of drillyard: {error}",
            hint="name a file that `drillyard archive` wrote",
        ) from error


def _list_of(archive: zipfile.ZipFile, path: Path) -> ArchiveRecord:
    """The list of an archive, its names checked.

    Raises:
        UserError: There is none, or it has names that leave the experiment.
        CorruptObject: It cannot be read.
    """
    try:
        info = archive.getinfo(LIST)
    except KeyError:
        raise UserError(
            f"{path} is not an archive of drillyard: it has no {LIST}",
            hint="name a file that `drillyard archive` wrote",
        ) from None
    if info.file_size > MAX_LIST_BYTES:
        raise CorruptObject(f"{path}: {LIST} is too large to be a list of objects")
    listed = ArchiveRecord.from_bytes(archive.read(LIST))
    check_key(listed.experiment)
    if "/" in listed.experiment:
        raise UserError(f"{path}: {listed.experiment!r} is not a name of an experiment")
    for inner in listed.objects:
        check_key(inner)
    if IDENTITY not in listed.objects:
        raise CorruptObject(f"{path} has no {IDENTITY}")
    return listed


def _verify(path: Path, listed: ArchiveRecord) -> None:
    """Read every object of a file and compare it with the list.

    Raises:
        CorruptObject: One is missing, has another size or another hash.
    """
    with _opened(path) as archive:
        for inner, expected in listed.objects.items():
            _extract(archive, inner, expected, None)


def _extract(
    archive: zipfile.ZipFile, inner: str, expected: ArchivedObject, out: Path | None
) -> None:
    """Read an object, never more than its size in the list."""
    digest, size = hashlib.sha256(), 0
    try:
        with archive.open(FOLDER + inner) as source, open(out or os.devnull, "wb") as target:
            while block := source.read(1 << 20):
                size += len(block)
                if size > expected.size:
                    break
                digest.update(block)
                target.write(block)
    except (KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise CorruptObject(
            f"{archive.filename}: {inner} cannot be read: {error}", hint="use another copy"
        ) from error
    if size != expected.size or digest.hexdigest() != expected.sha256:
        raise CorruptObject(
            f"{archive.filename}: {inner} is not what was archived", hint="use another copy"
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
