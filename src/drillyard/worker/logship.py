"""Log lines of an attempt: from a local file to immutable segments in the mailbox.

The output of a ticket's process and its children goes to one local file, so that nothing blocks
them, and the worker can ship the log of a killed process. Segments are named by the number of
their first line: ``<attempt folder>/logs/<first line>.txt``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from drillyard.mailbox import Mailbox

MAX_BYTES = 32 << 20
"""Bytes of output from which only the end of an attempt's log is kept."""
MAX_TAIL = 64 << 10
"""Bytes of that end. It has the error, and the stack of a process that hangs."""
MAX_LINE = 32 << 10
"""Characters of a line; the rest of a longer line is not kept."""
_MAX_SEGMENT = 1 << 20
_MAX_LOCAL = MAX_BYTES + (64 << 20)
"""Bytes of the local file, which would fill the disk under a process that prints without end."""
_CUT = f" [drillyard: the rest of this line, over {MAX_LINE:,} characters, is not kept]"


class _Mark(NamedTuple):
    """How far a log was shipped.

    Attributes:
        offset: Bytes of the local file.
        line: Lines in the mailbox.
        in_long_line: The bytes end within a line whose rest is not kept.
    """

    offset: int
    line: int
    in_long_line: bool = False


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
        """Ship the new whole lines that are in the file now. Later ones come with the next call.

        Args:
            everything: The process ends: also an unfinished last line, and the last lines of an
                output that is over the limit.

        Returns:
            Lines shipped so far.

        Raises:
            StoreUnavailable: No line is lost; the next call ships them.
        """
        with self._lock:
            mark = self._shipped()
            size = self._size()
            while mark.offset < min(size, MAX_BYTES):
                chunk = self._next(mark.offset, everything)
                if not chunk:
                    break
                mark = self._ship_chunk(mark, chunk)
            if everything and MAX_BYTES <= mark.offset < size:
                mark = self._ship_tail(mark, size)
            elif size > _MAX_LOCAL and mark.offset >= MAX_BYTES:
                # The writers append, so they go on from there.
                os.truncate(self._path, mark.offset)
            return mark.line

    def _ship_chunk(self, mark: _Mark, chunk: bytes) -> _Mark:
        after = mark.offset + len(chunk)
        if after > MAX_BYTES:
            note = (
                f"[drillyard: the output is over {MAX_BYTES:,} bytes: of the rest, only the "
                f"last {MAX_TAIL:,} bytes are kept, once the process ends]\n"
            )
            return self._put(_Mark(mark.offset, mark.line), note, MAX_BYTES)
        in_long_line = len(chunk) >= _MAX_SEGMENT and b"\n" not in chunk
        if mark.in_long_line:
            chunk = b"" if b"\n" not in chunk else chunk.partition(b"\n")[2]
            in_long_line = in_long_line or not chunk
        return self._put(mark, self._text(chunk), after, in_long_line)

    def _ship_tail(self, mark: _Mark, size: int) -> _Mark:
        start = max(mark.offset, size - MAX_TAIL)
        with open(self._path, "rb") as file:
            file.seek(start)
            tail = file.read(MAX_TAIL)
        end = start + len(tail)
        if start > mark.offset:
            tail = tail.partition(b"\n")[2] or tail
        return self._put(mark, self._text(tail), end)

    def _text(self, chunk: bytes) -> str:
        """What is kept of lines: without secrets, and none longer than the limit."""
        text = self._redact(chunk.decode("utf-8", errors="replace"))
        if len(text) <= MAX_LINE:
            return text
        lines = text.split("\n")
        cut = [f"{line[:MAX_LINE]}{_CUT}" if len(line) > MAX_LINE else line for line in lines]
        return "\n".join(cut)

    def _put(self, mark: _Mark, text: str, offset: int, in_long_line: bool = False) -> _Mark:
        line = mark.line
        if text:
            key = self._mailbox.key(f"{self._folder}/logs/{line:012d}.txt")
            self._mailbox.store.put(key, text.encode())
            line += text.count("\n") + (not text.endswith("\n"))
        mark = _Mark(offset, line, in_long_line)
        self._mark.write_text(json.dumps(mark), encoding="utf-8")
        return mark

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

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _shipped(self) -> _Mark:
        try:
            return _Mark(*json.loads(self._mark.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return _Mark(0, 0)
