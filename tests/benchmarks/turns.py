"""Two commands take turns of a second or two on one machine, so that both meet the same weather.

On a shared machine the speed of one and the same training changes by a third within a minute
(measured), which no median of a few runs takes out. So both sides run at once, and all processes
of one are stopped (SIGSTOP) while those of the other go on. A side's own time is the sum of its
turns.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TURN_S = 1.5
MARK = "DRILLYARD_BENCHMARK_SIDE"


@dataclass
class Side:
    """One command with everything that it starts, wherever those processes end up.

    Args:
        command: Program and arguments.
        folder: Where it runs; its output goes to ``<word>.out`` there.
        env: Added to the environment.
    """

    command: list[str]
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    word: str = field(default_factory=lambda: secrets.token_hex(8))
    turns: list[tuple[float, float]] = field(default_factory=list)
    """When it ran while the other was stopped, in epoch seconds."""
    process: subprocess.Popen[bytes] | None = None
    held: bool = False

    @property
    def output(self) -> Path:
        return self.folder / f"{self.word}.out"

    def start(self) -> None:
        """Begin; its processes are known by a word in their environment."""
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env, MARK: self.word},
            )

    def processes(self) -> list[psutil.Process]:
        """All that live and carry the word."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.word:
                    found.append(process)
        return found

    def over(self) -> bool:
        """True when the command has ended."""
        assert self.process is not None
        return self.process.poll() is not None

    def hold(self, still: bool) -> None:
        """Stop all of its processes, or let them go on."""
        if still != self.held:
            _each(self.processes(), "suspend" if still else "resume")
            self.held = still

    def own_time(self, first: float, last: float) -> float:
        """Seconds of its turns between two moments."""
        return sum(max(0.0, min(last, end) - max(first, begin)) for begin, end in self.turns)

    def end(self) -> None:
        """Leave nothing behind; safe to call again."""
        for action in ("kill", "resume"):
            _each(self.processes(), action)
        if self.process is not None:
            self.process.wait()

    def finish(self) -> str:
        """Wait for the end; what it printed.

        Raises:
            SystemExit: It failed.
        """
        assert self.process is not None
        code, text = self.process.wait(600), self.output.read_text()
        if code:
            raise SystemExit(f"{' '.join(self.command)}: exit {code}\n{text[-3000:]}")
        return text


def alternate(first: Side, second: Side) -> None:
    """Let two sides, both of which run, take turns until one of them has ended."""
    sides = (first, second)
    # Looked up once: a look takes long enough to matter, and nothing starts amid a training.
    members = {side.word: side.processes() for side in sides}
    try:
        _each(members[second.word], "suspend")
        while True:
            for side, other in ((first, second), (second, first)):
                _each(members[other.word], "suspend")
                _each(members[side.word], "resume")
                began = time.time()
                time.sleep(TURN_S)
                if first.over() or second.over():
                    return
                side.turns.append((began, time.time()))
    finally:
        for side in sides:
            _each(members[side.word], "resume")


def _each(processes: list[psutil.Process], action: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, action)()
