"""Log lines of an attempt: from a local file to immutable segments in the mailbox.

The output of a ticket's process and its children goes to one local file, so that nothing blocks
them, and the worker can ship the log of a killed process. Segments are named by the number of
their first line: ``<attempt folder>/logs/<first line>.txt``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from drillyard.mailbox import Mailbox

MAX_BYTES = 32 << 20
"""Limit of one attempt's log in bytes; more is not kept."""
_MAX_SEGMENT = 1 << 20


class LogShipper:
    """Ships one file. One process at a time may do so; the next one continues where it ended.

    Args:
        mailbox: The experiment.
        folder: The attempt's folder in the mailbox.
        path: The local file. ``<path>.shipped`` beside it contains how far it was shipped.
        redact: Removes secrets from a text.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        folder: str,
        path: Path,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._mailbox = mailbox
        self._folder = folder
        self._path = path
        self._mark = path.with_name(path.name + ".shipped")
        self._redact = redact
        self._lock = threading.Lock()

    def ship(self, everything: bool = False) -> int:
        """Ship the new whole lines.

        Args:
            everything: Also an unfinished last line, if the writer has ended.

        Returns:
            Lines shipped so far.

        Raises:
            StoreUnavailable: No line is lost; the next call ships them.
        """
        with self._lock:
            offset, line = self._shipped()
            while chunk := self._next(offset, everything):
                text = self._redact(chunk.decode("utf-8", errors="replace"))
                if offset + len(chunk) > MAX_BYTES:
                    if offset < MAX_BYTES:
                        text = f"[drillyard: output over {MAX_BYTES} bytes is not kept]\n"
                    else:
                        offset += len(chunk)
                        continue
                key = self._mailbox.key(f"{self._folder}/logs/{line:012d}.txt")
                self._mailbox.store.put(key, text.encode())
                offset, line = offset + len(chunk), line + text.count("\n")
                if not text.endswith("\n"):
                    line += 1
                self._mark.write_text(json.dumps([offset, line]), encoding="utf-8")
            return line

    def _next(self, offset: int, everything: bool) -> bytes:
        try:
            with open(self._path, "rb") as file:
                file.seek(offset)
                chunk = file.read(_MAX_SEGMENT)
        except FileNotFoundError:
            return b""
        if everything and len(chunk) < _MAX_SEGMENT:
            return chunk
        whole = chunk[: chunk.rfind(b"\n") + 1]
        # A line longer than a segment is cut, so that it need not be complete.
        return whole or (chunk if len(chunk) == _MAX_SEGMENT else b"")

    def _shipped(self) -> tuple[int, int]:
        try:
            offset, line = json.loads(self._mark.read_text(encoding="utf-8"))
            return int(offset), int(line)
        except (FileNotFoundError, ValueError):
            return 0, 0
