"""The output of the processes of a run, over all phases and attempts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Phase
from drillyard.mailbox.store import ObjectMissing

_SEGMENT = re.compile(r"/attempts/(?P<phase>[a-z]+)-(?P<attempt>\d+)/logs/(?P<seq>\d+)\.txt\Z")


class RunLogs:
    """Reads log segments. Segments never change, so each is read once.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._segments: dict[str, list[str]] = {}

    def lines(self, run: str) -> list[str]:
        """All lines so far: train, evaluate, store; attempts in their order."""
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


@dataclass
class Tail:
    """Follows the log of a run, reading each segment once.

    Segments are immutable and hold whole lines; their name is the number of the first line. A
    newer attempt of a phase is announced by a line of its own.
    """

    mailbox: Mailbox
    run: str
    _seen: set[str] = field(default_factory=set)
    _attempts: dict[str, int] = field(default_factory=dict)

    def new(self) -> Iterator[str]:
        """Lines since the last call: train, evaluate, store."""
        segments: dict[str, list[tuple[int, int, str]]] = {}
        for info in self.mailbox.store.list(self.mailbox.key(f"runs/{self.run}/attempts/")):
            match = _SEGMENT.search(info.key)
            if match:
                found = segments.setdefault(match["phase"], [])
                found.append((int(match["attempt"]), int(match["seq"]), info.key))
        for phase in PHASES:
            of_phase = sorted(segments.get(phase.value, []))
            newest = of_phase[-1][0] if of_phase else 0
            for attempt, _, key in of_phase:
                if attempt != newest or key in self._seen:
                    continue
                if attempt != self._attempts.get(phase.value, 1):
                    yield f"--- {phase.value}, attempt {attempt} ---"
                self._attempts[phase.value] = attempt
                try:
                    text = self.mailbox.store.get(key)
                except ObjectMissing:
                    continue
                self._seen.add(key)
                yield from text.decode("utf-8", "replace").splitlines()
