"""Runs the lines of a script: without a shell by default, with a time limit.

Every process that a line starts has a mark in its environment, by which it is found and ended,
even in another process group or session.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from drillyard.errors import InfrastructureError, RunFailed, Stopped, TimedOut
from drillyard.runs.workload import StopSignal
from drillyard.spec.work import Line, words_of
from drillyard.system.kills import KILLED, killed
from drillyard.system.operating_system import ENDINGS, oom_kills
from drillyard.system.processes import ProcessId, end, marked

MARK = "DRILLYARD_SCRIPT"
RUN_MARK = "DRILLYARD_SCRIPT_RUN"
"""The same in all attempts of a run, so that an attempt finds the processes of a killed one."""
TERM_GRACE_S = 2.0
"""Seconds between SIGTERM and SIGKILL: a worker that is stopped has eight seconds in total."""
_POLL_S = 0.05
_TAIL_LINES = 15
_TAIL_CHARS = 2000
_DRAIN_S = 1.0
LATE_STOP_S = 2.0
"""Seconds by which a request to stop may come later than the death of a program by the same
signal, which went to all processes of the machine."""
_ASKED_TO_END = frozenset({-int(n) for n in ENDINGS} | {128 + int(n) for n in ENDINGS})
"""Exit codes: by a signal that asks a program to end, or a shell says so of its child."""


@dataclass
class CommandContext:
    """Where and how the lines of one run are executed.

    Attributes:
        folder: The working folder.
        environment: All variables of the processes.
        mark: Identifies the processes of this attempt.
        run_mark: Identifies the processes of this run, in all attempts.
        stop: Checked while a line runs; None if nothing may stop it (teardown).
        log: Gets every line of output.
        tick: Called repeatedly while a line runs.
        shell: Lines go to ``sh -c``.
        section: The section of the experiment file that has the lines and their time limits.
        abort_on_error: Lines after a failed one are skipped.
    """

    folder: Path
    environment: dict[str, str]
    mark: str
    stop: StopSignal | None
    log: Callable[[str], None]
    tick: Callable[[], None] = lambda: None
    shell: bool = False
    section: str = "script"
    abort_on_error: bool = True
    run_mark: str = ""
    output: Path | None = None
    """Gets the standard output of the lines."""
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    _oom_kills: int = field(default_factory=oom_kills)
    _lost: Exception | None = None
    """Why output could not be kept."""

    def run(self, name: str, lines: Sequence[Line], limit_s: float | None) -> None:
        """Run lines one after the other.

        Args:
            name: ``setup``, ``run``, ``teardown``, ``ready`` or ``stop``: for messages.
            lines: What to run.
            limit_s: Time limit of all lines together, in seconds.

        Raises:
            RunFailed: A line failed, or does not start; with its last output.
            ProcessKilled: A line was ended by SIGKILL from outside.
            InfrastructureError: The output of a line cannot be kept: a full disk.
            TimedOut: The time is over; all started processes are ended.
            Stopped: A stop was requested; all started processes are ended.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        failed: RunFailed | None = None
        for line in lines:
            try:
                self._line(name, line, deadline, limit_s)
            except RunFailed as error:
                if self.abort_on_error:
                    raise
                self.log(f"{name}: {error}; continuing (abort_on_error: false)")
                failed = failed or error
        if failed is not None:
            raise failed

    def begin(self, name: str, line: Line) -> subprocess.Popen[bytes]:
        """Start a line that goes on while others run; ``end_all`` ends it.

        Args:
            name: For messages.
            line: What to run.

        Raises:
            RunFailed: It does not start.
        """
        process, _ = self._start(name, line)
        for pipe in (process.stdout, process.stderr):
            threading.Thread(target=self._read, args=(pipe, self.output), daemon=True).start()
        return process

    def keep_output(self, scratch: Path, name: str) -> Path:
        """Keep the standard output from now on in a new file; returns the file."""
        self.output = path = scratch / "output" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def end_all(self, grace_s: float = TERM_GRACE_S) -> None:
        """End every process of the lines that is still alive."""
        # The second search finds processes that start during the first one.
        for _ in range(2):
            left = list(marked(self.mark, MARK))
            if left:
                end(left, grace_s)

    def _line(self, name: str, line: Line, deadline: float | None, limit_s: float | None) -> None:
        self._tail.clear()
        process, text = self._start(name, line)
        readers = [
            threading.Thread(target=self._read, args=(process.stdout, self.output), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, None), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            self._wait(process, name, text, deadline, limit_s)
        except BaseException:
            self._end(process)
            raise
        finally:
            # A server that the line left in the background keeps the pipes open.
            for reader in readers:
                reader.join(_DRAIN_S)
        if process.returncode:
            late = process.returncode in _ASKED_TO_END
            raise_if_stopped(self.stop, LATE_STOP_S if late else 0.0)
        self.raise_if_lost()  # first: a program fails if nothing reads its output
        if process.returncode:
            how = f"`{text}` in `{name}` {_how(process.returncode)}{self.last_words()}"
            if process.returncode in KILLED:
                raise killed(how, self._oom_kills)
            raise RunFailed(how, hint="the log of the run has all of its output")
        self.tick()

    def _start(self, name: str, line: Line) -> tuple[subprocess.Popen[bytes], str]:
        """Starts a line; returns the process, and the line as text."""
        text = line if isinstance(line, str) else shlex.join(line)
        self.log(f"{name}: {text}")
        arguments = ["sh", "-c", str(line)] if self.shell else self._arguments(line)
        try:
            process = subprocess.Popen(
                arguments,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self.environment, MARK: self.mark, RUN_MARK: self.run_mark},
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunFailed(
                f"`{text}` in `{name}` does not start: {reason}",
                hint="is the program installed on the worker, and is its file in the folder of "
                "the experiment? Pipes, `&&` and `*` need `shell: true`",
            ) from error
        return process, text

    def _arguments(self, line: Line) -> list[str]:
        words = words_of(line)
        if words[0].endswith(".py"):
            return [sys.executable, *words]
        program = self.folder / words[0]
        if "/" in words[0] and not Path(words[0]).is_absolute() and program.is_file():
            # Code travels without the right to execute.
            program.chmod(program.stat().st_mode | 0o100)
            return [str(program), *words[1:]]
        return words

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        name: str,
        text: str,
        deadline: float | None,
        limit_s: float | None,
    ) -> None:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
                return
            if self.stop is not None and self.stop.requested:
                raise Stopped(self.stop.reason)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOut(
                    f"`{name}` was not done after {limit_s:g} s, in `{text}`" + self.last_words(),
                    hint=f"raise {self.section}.{_LIMITS[name]}",
                )
            self.raise_if_lost()
            self.tick()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(psutil.Error):
            # By descent as well: a program may have cleared its environment.
            family = [
                psutil.Process(process.pid),
                *psutil.Process(process.pid).children(recursive=True),
            ]
            ids = [ProcessId.of(p.pid) for p in family]
            end({*(i for i in ids if i), *marked(self.mark, MARK)}, TERM_GRACE_S)
        self.end_all(0.0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)

    def _read(self, pipe: IO[bytes] | None, copy: Path | None) -> None:
        try:
            self._copy(pipe, copy)
        except Exception as error:
            self._lost = error

    def _copy(self, pipe: IO[bytes] | None, copy: Path | None) -> None:
        assert pipe is not None
        with pipe, open(copy or os.devnull, "ab") as file:
            # A line without an end must not fill the memory.
            while data := pipe.readline(1 << 16):
                if copy is not None:
                    file.write(data)
                    file.flush()
                text = data.decode(errors="replace").rstrip("\r\n")
                self._tail.append(text)
                self.log(text)

    def raise_if_lost(self) -> None:
        """Raise if output could not be kept: its last values would be missing.

        Raises:
            InfrastructureError: With the reason.
        """
        if self._lost is not None:
            reason = getattr(self._lost, "strerror", None) or self._lost
            raise InfrastructureError(
                f"the output of the commands cannot be kept in {self.output}: {reason}",
                hint="free some space there: delete files that no run needs",
            ) from self._lost

    def last_words(self) -> str:
        """The last lines of output, as the end of a message."""
        text = "\n".join(self._tail).strip()
        return f". Its last lines:\n{text[-_TAIL_CHARS:]}" if text else ", without output"


def raise_if_stopped(stop: StopSignal | None, wait_s: float) -> None:
    """Tell a program that failed by itself from one that ended because its run is stopped.

    Args:
        stop: The stop signal of the run; None if nothing may stop it.
        wait_s: How long to wait for the request.

    Raises:
        Stopped: A stop was requested.
    """
    if stop is None:
        return
    # A machine that is taken away sends SIGTERM to all processes, and the program may be the
    # first to end. What becomes of the attempt depends on whether it failed by itself.
    until = time.monotonic() + wait_s
    while not stop.requested and time.monotonic() < until:
        time.sleep(_POLL_S)
    stop.check()


def end_earlier(run_mark: str) -> int:
    """End processes of earlier attempts of a run on this machine; returns their number.

    A killed worker ends nothing, and a process in another session outlives it.
    """
    left = list(marked(run_mark, RUN_MARK))
    if left:
        end(left, TERM_GRACE_S)
    return len(left)


_LIMITS = {
    "setup": "setup_max_time_s",
    "run": "max_time_s",
    "teardown": "teardown_max_time_s",
    "ready": "ready.timeout_s",
    "stop": "stop_timeout_s",
}
"""Name of some lines -> the field of their section with their time limit."""


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
