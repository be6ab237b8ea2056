"""Log lines of an attempt: from a local file to immutable segments in the mailbox.

Everything that a ticket's process and its children print goes to one local file, so that nothing
blocks them and the worker can ship what a killed process left. Segments are named by the number of
their first line: ``<attempt folder>/logs/<first line>.txt``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from drillyard.mailbox import Mailbox

MAX_BYTES = 32 << 20
"""Of one attempt; what comes after is counted, not kept."""
_MAX_SEGMENT = 1 << 20


class LogShipper:
    """Ships one file. One process at a time does it; the next one goes on where it ended.

    Args:
        mailbox: Where to.
        folder: The attempt's folder in the mailbox.
        path: The local file. Beside it lies ``<path>.shipped``: how far it was shipped.
        redact: Takes secrets out of a text.
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
        """Ship the whole lines that are new.

        Args:
            everything: Also an unfinished last line: nobody writes any more.

        Returns:
            Lines shipped so far.

        Raises:
            StoreUnavailable: Nothing is lost; the next call ships it.
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
        # A line longer than a segment is cut rather than waited for.
        return whole or (chunk if len(chunk) == _MAX_SEGMENT else b"")

    def _shipped(self) -> tuple[int, int]:
        try:
            offset, line = json.loads(self._mark.read_text(encoding="utf-8"))
            return int(offset), int(line)
        except (FileNotFoundError, ValueError):
            return 0, 0
