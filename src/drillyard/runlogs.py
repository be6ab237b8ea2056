"""The lines that the processes of a run printed, over all phases and attempts."""

from __future__ import annotations

import re

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Phase

_SEGMENT = re.compile(r"/attempts/(?P<phase>[a-z]+)-(?P<attempt>\d+)/logs/(?P<seq>\d+)\.txt\Z")


class RunLogs:
    """Reads log segments, each once, because they never change.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._segments: dict[str, list[str]] = {}

    def lines(self, run: str) -> list[str]:
        """All lines so far: train before evaluate before store, attempts in their order."""
        found = []
        for info in self._mailbox.store.list(self._mailbox.key(f"runs/{run}/attempts/")):
            match = _SEGMENT.search(info.key)
            if match:
                place = PHASES.index(Phase(match["phase"]))
                found.append((place, int(match["attempt"]), int(match["seq"]), info.key))
        lines: list[str] = []
        for *_, key in sorted(found):
            if key not in self._segments:
                text = self._mailbox.store.get(key).decode("utf-8", "replace")
                self._segments[key] = text.splitlines()
            lines += self._segments[key]
        return lines
