"""Reads the streams of a running run again and again: each call reads only what is new."""

from __future__ import annotations

from drillyard.mailbox import Mailbox
from drillyard.metrics import streams
from drillyard.metrics.streams import Line


class StreamReader:
    """The merged streams of one run, as ``read_stream`` gives them.

    A call costs two requests to find the attempt that counts, one listing a stream, and one read
    for each new segment, however long the run is.

    Args:
        mailbox: Where to read.
        run: The run.
        again: After a resume, ``new`` gives all lines again.
    """

    def __init__(self, mailbox: Mailbox, run: str, *, again: bool = False) -> None:
        self._mailbox = mailbox
        self._run = run
        self._again = again
        self._given: dict[str, int] = {}
        self.attempt: int | None = None
        """The attempt that ``look`` found last."""
        self._begun: set[int] = set()
        self._chain: streams.Chain = []
        self._merged: dict[str, list[Line]] = {}
        self._whole: set[str] = set()
        """Streams whose earlier attempts were read."""
        self._sizes: dict[str, int] = {}
        """Key of a segment that was read -> its size. It is written again, and may then be longer,
        where the answer to its first writing was lost."""

    def restarted(self) -> StreamReader:
        """A reader of the same run that has read nothing."""
        return StreamReader(self._mailbox, self._run, again=self._again)

    def look(self) -> bool:
        """Find the attempt that counts; False if none has begun."""
        attempt = streams.last_attempt(self._mailbox, self._run, self._begun)
        if attempt is not None and attempt != self.attempt:
            self._chain = streams.chain(self._mailbox, self._run, attempt)
            self._merged.clear()
            self._whole.clear()
            self._sizes.clear()
            self.attempt = attempt
            if self._again:
                self._given.clear()
        return attempt is not None

    def lines(self, stream: str) -> list[Line]:
        """The lines of a stream so far, in the attempt that ``look`` found last.

        Args:
            stream: Which stream.

        Returns:
            The reader's own list; the caller must not change it.
        """
        merged = self._merged.setdefault(stream, [])
        # Earlier attempts no longer change.
        for attempt, cut in self._chain[-1:] if stream in self._whole else self._chain:
            folder = streams.folder_of(self._mailbox, self._run, attempt, stream)
            for info in self._mailbox.store.list(folder):
                if self._sizes.get(info.key) == info.size:
                    continue
                segment = streams.parsed(self._mailbox.store.get(info.key))
                streams.merge(merged, segment, None if cut is None else cut.get(stream, 0))
                self._sizes[info.key] = info.size
        self._whole.add(stream)
        return merged

    def new(self, stream: str) -> list[Line]:
        """The lines of a stream that were not given before.

        What a resume writes again has the same numbers and values, and is not new.
        """
        lines = self.lines(stream)
        first = self._given.get(stream, 0)
        self._given[stream] = max(first, len(lines))
        return lines[first:]
