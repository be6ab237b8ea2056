"""A local copy of an experiment's curves as TensorBoard event files, kept up to date.

TensorBoard reads a folder; results may lie in a bucket. What a run has stored as event files is
copied; while it is at work, its curves are written from its metric streams, which are the truth.
Nothing here needs torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from drillyard.errors import UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard.metrics.event_files import STREAMS, encode
from drillyard.metrics.reader import StreamReader
from drillyard.metrics.streams import Line
from drillyard.system.optional_packages import install
from drillyard.system.safe_names import file_name

_LIVE = ".live"


class Boards:
    """The copy of some runs of one experiment.

    Args:
        mailbox: The experiment.
        runs: Which.
        folder: Where the copy is: ``<folder>/<experiment>/<run>/``.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, mailbox: Mailbox, runs: Iterable[str], folder: Path) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError("TensorBoard is not installed here", hint=install("rl")) from error
        self._mailbox = mailbox
        self._runs = list(runs)
        self.folder = folder
        self._copied: dict[str, tuple[int, float]] = {}
        self._live: dict[str, _Live] = {}

    def sync(self) -> int:
        """Bring the copy up to date.

        Returns:
            How many files were copied, or got new points.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        return sum(self._sync(run) for run in self._runs)

    def _sync(self, run: str) -> int:
        place = self.folder / file_name(self._mailbox.experiment) / file_name(run)
        stored = self._stored(run)
        if not stored:
            if run not in self._live:
                self._live[run] = _Live(self._mailbox, run, place)
            return self._live[run].sync()
        self._live.pop(run, None)
        for path in place.glob(f"*{_LIVE}"):
            path.unlink()  # the stored files have all its points
        return sum(self._copy(info, place / info.key.rpartition("/")[2]) for info in stored)

    def _stored(self, run: str) -> list[ObjectInfo]:
        """Event files of a run as it published them.

        Before that its streams are the whole truth, over all attempts; where it has none, the
        files of its newest attempt are what there is.
        """
        prefix = self._mailbox.key(f"runs/{run}/")
        files: dict[str, list[ObjectInfo]] = {}
        streams = False
        for info in self._mailbox.store.list(prefix):
            streams = streams or "/streams/" in info.key
            head, sign, _ = info.key.rpartition("/tensorboard/")
            if sign:
                files.setdefault(head, []).append(info)
        published = files.get(prefix.rstrip("/"), [])
        if published or streams or not files:
            return published
        return files[max(files, key=lambda head: max(i.updated_at for i in files[head]))]

    def _copy(self, info: ObjectInfo, path: Path) -> bool:
        state = (info.size, info.updated_at)
        if self._copied.get(info.key) == state and path.exists():
            return False
        if path.exists() and info.key not in self._copied and path.stat().st_size == info.size:
            self._copied[info.key] = state  # from an earlier time
            return False
        try:
            self._mailbox.store.download(info.key, path)
        except ObjectMissing:
            return False
        self._copied[info.key] = state
        return True


class _Live:
    """The event file of an active run, written from its streams."""

    def __init__(self, mailbox: Mailbox, run: str, folder: Path) -> None:
        self._reader = StreamReader(mailbox, run)
        self._folder = folder
        self._file: Path | None = None

    def sync(self) -> int:
        streams = STREAMS if self._reader.look() else ()
        # Each stream is written once it is read: the store may fail at the next one.
        return int(sum(self._add(self._reader.new(stream)) for stream in streams) > 0)

    def _add(self, lines: list[Line]) -> bool:
        if not lines:
            return False
        begins = self._file is None
        if self._file is None:
            # A copy of an earlier time is written again: TensorBoard shows no point twice.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._folder / f"events.out.tfevents.{int(lines[0]['time']):010d}{_LIVE}"
        with open(self._file, "ab") as file:
            file.write(encode(lines, head=begins))
        return True
