"""What the pages of one experiment are told, read at most once in a pause however many ask."""

from __future__ import annotations

import logging
import threading

from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.store import ObjectMissing
from drillyard.report.live import page
from drillyard.report.live.reader import LiveReader
from drillyard.results import formatting
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.redaction import redact

EVERY_S = 2.0
"""Seconds between two looks at a disk."""
PACES = 10.0
"""Seconds between two looks at a bucket, as a multiple of its pace: each request costs money."""
OVER_EVERY_S = 60.0
"""Seconds between two looks at an experiment that is over, which a command may resume."""
log = logging.getLogger(__name__)


class Watched:
    """One experiment.

    Args:
        mailbox: The experiment.
        clock: For the pauses.
    """

    def __init__(self, mailbox: Mailbox, clock: Clock = SYSTEM) -> None:
        self._reader = LiveReader(mailbox)
        self._name = mailbox.experiment
        self._clock = clock
        self._lock = threading.Lock()
        self._every_s = max(EVERY_S, PACES * pace(mailbox.store))
        self._due = clock.monotonic()
        self._log: str | None = None
        self._told: JsonObject = {"parts": {}, "title": "", "trouble": ""}
        self._read_at: float | None = None

    def state(self, log_of: str | None = None) -> JsonObject:
        """What a page shows now.

        Args:
            log_of: The run whose log is asked for.

        Returns:
            ``parts``: id -> HTML; ``title``; ``trouble``: why it is not up to date, as text, or
            empty; ``every_s``: when the page should ask again.
        """
        with self._lock:
            if self._clock.monotonic() >= self._due or log_of != self._log:
                self._look(log_of)
            return self._told

    def _look(self, log_of: str | None) -> None:
        every_s, trouble, fresh = self._every_s, "", JsonObject()
        try:
            live = self._reader.read(log_of)
        except (DrillyardError, ObjectMissing) as error:
            trouble = self._trouble(error)
        else:
            self._read_at, self._log = live.read_at, log_of
            every_s = max(every_s, OVER_EVERY_S) if live.over else every_s
            word = live.stages.status if live.stages else live.status.value
            done = word if live.over else f"{page.share_done(live):.0%}"
            fresh = {"parts": {**page.parts(live)}, "title": f"{done} {self._name}: live"}
        self._told = {**self._told, **fresh, "trouble": trouble, "every_s": every_s}
        # After the look: a slow store is not asked without a pause.
        self._due = self._clock.monotonic() + every_s * 0.9

    def _trouble(self, error: Exception) -> str:
        hint = getattr(error, "hint", None)
        text = f"Not up to date: {error}" + (f" ({hint})" if hint else "")
        if self._read_at is not None:
            text += f". This was read at {formatting.moment(self._read_at)}."
        return redact(text)
