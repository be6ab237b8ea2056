"""TensorBoard event files, written from the metric streams with their own time stamps.

They grow while a run trains: when new points of the streams have reached the store, but at most
every few seconds, one more small file is added to the attempt's folder ``tensorboard/``.
TensorBoard reads all files of a folder in the order of their names as one. The first file of a
resumed attempt has the curve up to its checkpoint. So each folder shows a whole curve without a
duplicate point, even if the attempts before wrote points after that checkpoint.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence

from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import save_file
from drillyard.mailbox.records import FileEntry, Phase
from drillyard.metrics.event_files import STREAMS, encode
from drillyard.metrics.streams import Line, read_stream
from drillyard.system.clock import SYSTEM, Clock

EVERY_S = 10.0
"""Minimum seconds between two files."""
_SHARE = 50
"""The interval grows with the time so far: at most about this many files for each doubling."""
log = logging.getLogger(__name__)


class EventFiles:
    """The event files of one attempt.

    Args:
        mailbox: Where they are written.
        run: The run.
        attempt: The attempt, which must own its folder.
        offsets: For each stream, the number of valid lines that earlier attempts wrote.
        clock: Measures the time between two files.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        run: str,
        attempt: int,
        offsets: Mapping[str, int] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._mailbox = mailbox
        self._run, self._attempt = run, attempt
        self._history = dict(offsets or {})
        self._clock = clock
        self._folder = f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/tensorboard"
        self._pending: list[Line] = []
        self._began = self._written = clock.monotonic()
        self._lock = threading.Lock()
        self.files: dict[str, FileEntry] = {}
        """Name -> entry of each written file, for the manifest of the result."""

    def take(self, flushed: Mapping[str, Sequence[str]]) -> None:
        """Receive lines that have just reached the store, and write a file if one is due.

        Args:
            flushed: Stream -> its new lines, as JSON.
        """
        with self._lock:
            for stream in STREAMS:
                self._pending += [json.loads(text) for text in flushed.get(stream, ())]
            now = self._clock.monotonic()
            if now - self._written >= max(EVERY_S, (now - self._began) / _SHARE):
                self._written = now
                self._write()

    def finish(self) -> dict[str, FileEntry]:
        """Write the remaining lines, and return all files of this attempt."""
        with self._lock:
            self._write()
        return self.files

    def _write(self) -> None:
        lines = self._pending
        try:
            if self._history:
                lines = [*self._past(), *lines]
            if not lines:
                return
            name = (
                f"tensorboard/events.out.tfevents.{int(lines[0]['time']):010d}.{self._run}"
                f".{self._attempt}.{len(self.files):06d}"
            )
            path = f"{self._folder}/{name.removeprefix('tensorboard/')}"
            self.files[name] = save_file(self._mailbox, path, encode(lines))
        except InfrastructureError as error:
            log.warning("event files could not be stored and will be tried again: %s", error)
            return
        self._pending, self._history = [], {}

    def _past(self) -> list[Line]:
        return [
            line
            for stream in STREAMS
            for line in read_stream(
                self._mailbox, self._run, stream, self._attempt, upto=self._history.get(stream, 0)
            )
        ]


def forget(mailbox: Mailbox, run: str, attempt: int) -> None:
    """Delete the files of an attempt that goes back to its checkpoint: it writes them again."""
    folder = f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/tensorboard/"
    for info in list(mailbox.store.list(mailbox.key(folder))):
        mailbox.store.delete(info.key)
