"""The output of the processes of a run, over all phases and attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Phase
from drillyard.mailbox.store import ObjectMissing, folders, keys


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

    def new(self, phase: Phase | None = None) -> Iterator[str]:
        """Lines since the last call: train, evaluate, store.

        Args:
            phase: Ask only for this one: two requests.
        """
        for name, attempts in _attempts(self.mailbox, self.run).items():
            if phase is None or name is phase:
                yield from self._of_phase(name, attempts)

    def _of_phase(self, phase: Phase, attempts: Sequence[int]) -> Iterator[str]:
        """New lines of the newest attempt that has written any."""
        for attempt in attempts:
            folder = f"{self.mailbox.attempt_path(self.run, phase, attempt)}/logs/"
            there = list(keys(self.mailbox.store, self.mailbox.key(folder)))
            for key in there:
                if key in self._seen:
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
            if there:
                return


class LastLines:
    """The last lines of the log of a run's newest attempt.

    A call costs one listing, and reads no segment twice. Of a long log only the end is read.

    Args:
        mailbox: The experiment.
        run: The run.
        most: Number of lines that are kept.
    """

    def __init__(self, mailbox: Mailbox, run: str, most: int = 200) -> None:
        self._mailbox = mailbox
        self._run = run
        self._most = most
        self._folder = ""
        self._last = ""
        self._lines: list[str] = []

    def read(self, phase: Phase, attempt: int) -> list[str]:
        """The last lines so far.

        Args:
            phase: The phase.
            attempt: Its attempt.
        """
        path = f"{self._mailbox.attempt_path(self._run, phase, attempt)}/logs/"
        folder = self._mailbox.key(path)
        if folder != self._folder:
            self._folder, self._last, self._lines = folder, "", []
        new = [key for key in keys(self._mailbox.store, folder) if key > self._last]
        lines: list[str] = []
        for key in reversed(new):
            text = self._mailbox.store.get(key).decode("utf-8", "replace")
            lines = text.splitlines() + lines
            if len(lines) >= self._most:
                break
        if new:
            self._last = new[-1]
            self._lines = (self._lines + lines)[-self._most :]
        return list(self._lines)


def _attempts(mailbox: Mailbox, run: str) -> dict[Phase, list[int]]:
    """The attempts of each phase, newest first."""
    attempts: dict[Phase, list[int]] = {phase: [] for phase in PHASES}
    for name in folders(mailbox.store, mailbox.key(f"runs/{run}/attempts/")):
        phase, _, number = name.rpartition("-")
        if phase in set(PHASES) and number.isdigit():
            attempts[Phase(phase)].append(int(number))
    return {phase: sorted(numbers, reverse=True) for phase, numbers in attempts.items()}
