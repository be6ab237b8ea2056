"""A simulator's own process: it has its own folder and its own connection.

| drillyard says                                         | the simulator answers                  |
|--------------------------------------------------------|----------------------------------------|
| (nothing, with lines: the simulator speaks first)      | ``{"token": "…"}``                     |
| ``{"type": "Idle"}``                                   | ``{}``                                 |
| ``{"type": "EpisodeStart", "config": {…}, "seed": 1}`` | ``{"states": {…}}``                   |
| ``{"type": "EpisodeStep", "actions": {…}}``            | that, ``terminated``, ``truncated``    |

``{"error": "…"}`` instead of an answer ends the run. The end of the connection ends the simulator;
where this process is killed, its guard does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from drillyard.documents.json_types import JsonObject
from drillyard.errors import SimulatorError
from drillyard.simulators.external_wires import LOOK_S, WIRES, Lines, Wire
from drillyard.system.guard import finish, guarded
from drillyard.system.processes import ProcessId, end, tree

LAST_WORDS = 10
"""Lines of its output that a message repeats."""
GRACE_S = 2.0
"""Between the end of the connection and SIGTERM, and between SIGTERM and SIGKILL."""
log = logging.getLogger("drillyard.simulator")


class Answer(TypedDict, total=False):
    """What a simulator may answer; all of it is checked before it is used."""

    states: dict[str, float]
    terminated: bool
    truncated: bool
    error: str
    failed: int
    unstarted: list[str]


class ConnectionLost(Exception):
    """The process died, hangs or sent an invalid answer; the message says which."""


class Program(Protocol):
    """A process and the connection to it, or only a connection; see ``ExternalProcess``."""

    def connect(self, timeout_s: float) -> None:
        """Waits until it is ready; raises ``ConnectionLost``."""

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Returns the answer to a message; raises ``ConnectionLost``."""

    def last_words(self) -> str:
        """The last lines that it printed, for a message."""

    def close(self) -> None:
        """Ends it."""


class ExternalProcess:
    """One process and the connection to it; never started twice.

    Args:
        command: Program and arguments. ``{port}``, ``{token}``, ``{copy}`` and ``{folder}`` are
            filled in; words that name a file beside the experiment become its path. The
            environment has the same as ``DRILLYARD_PORT`` and so on.
        copy: Index of the copy.
        environment: Added to this process's own.
        protocol: A key of ``WIRES``.
        container: Program and name of the container that the command runs, None for none: ended
            by that program, because killing the client of a container leaves it.

    Raises:
        SimulatorError: There is no such program.
    """

    def __init__(
        self,
        command: Sequence[str],
        copy: int,
        environment: dict[str, str],
        protocol: str = "lines",
        container: str | None = None,
    ) -> None:
        self._copy = copy
        # Below the temporary folder of the attempt, which goes even after kill -9.
        self._folder = Path(tempfile.mkdtemp(prefix=f"simulator-{copy}-"))
        self._token = secrets.token_hex(16)
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self.wire: Wire = WIRES[protocol]()
        self._removal: list[str] = []
        given = {
            "port": str(self.wire.port),
            "token": self._token,
            "copy": str(copy),
            "folder": str(self._folder),
        }
        name = secrets.token_hex(6)
        words = [_filled(word, given) for word in command]
        if container is not None:
            words = [_filled(word, {"name": name}) for word in words]
            self._removal = [container, "rm", "--force", f"drillyard-{name}"]
        words = [_own_file(word) for word in words]
        words[0] = _executable(words[0], self._folder)
        names = {f"DRILLYARD_{name.upper()}": value for name, value in given.items()}
        try:
            self._process = subprocess.Popen(
                words,
                cwd=self._folder,
                env={**os.environ, **environment, **names},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self.wire.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SimulatorError(
                f"cannot be started: {error.strerror or error}",
                field="simulator.args.command",
                value=" ".join(command),
                allowed="a program on PATH or a file beside the experiment, and its arguments",
                hint="is it installed where the run works?",
            ) from error
        self._identity = ProcessId.of(self._process.pid)
        self._guard = None
        if self._identity is not None:  # it has not ended at once
            with contextlib.suppress(OSError):  # too many processes: it would only be missed
                place = str(self._folder)
                self._guard = guarded(self._identity, GRACE_S, self._removal, place)
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def connect(self, timeout_s: float) -> None:
        """Wait until the process has connected and answered.

        Raises:
            ConnectionLost: It ended, or did not come in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.wire.meet(self._token, max(deadline - time.monotonic(), LOOK_S)):
            if self._process.poll() is not None:
                raise ConnectionLost(f"{self._ending()} before it connected")
            if time.monotonic() >= deadline:
                how = "connect to" if isinstance(self.wire, Lines) else "listen at"
                raise ConnectionLost(f"did not {how} port {self.wire.port} within {timeout_s:g} s")
        self.ask({"type": "Idle"}, max(deadline - time.monotonic(), LOOK_S))

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Sends a message, and returns the answer.

        Raises:
            ConnectionLost: No answer, or an answer that is not a JSON object.
        """
        what = message["type"]
        try:
            line = self.wire.ask(message, timeout_s)
        except TimeoutError as error:
            raise ConnectionLost(f"did not answer {what} within {timeout_s:g} s") from error
        except OSError:
            line = b""
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)  # so that its exit code is known
            raise ConnectionLost(f"{self._ending()} instead of answering {what}")
        try:
            answer: Answer | None = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ConnectionLost(f"answered {what} with {line[:80]!r}, which is not a JSON object")
        return answer

    def ended(self) -> str:
        """How it ended; empty while it runs."""
        return "" if self._process.poll() is None else self._ending()

    def last_words(self) -> str:
        """The last lines that it printed, for a message; empty where it printed none."""
        self._reader.join(LOOK_S)
        return "".join(f"\n    {line}" for line in self._said)

    def close(self) -> None:
        """End the process and what it started; its folder goes with it."""
        known = tree(self._identity) if self._identity is not None else []
        if self.wire.close():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        end(known, GRACE_S)
        self._process.wait()
        finish(self._removal)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._reader.join(GRACE_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ending(self) -> str:
        code = self._process.poll()
        if code is None:
            return "closed the connection"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    def _read_output(self) -> None:
        """Copies its output to the log of the run; unread output would block the process."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self._said.append(text)
            log.info("copy %d: %s", self._copy, text)
        self._process.stdout.close()


def _filled(word: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _own_file(word: str) -> str:
    """A file beside the experiment by its path: the process works in another folder."""
    if os.path.isabs(word) or word.startswith("-"):
        return word
    places = [Path.cwd(), *map(Path, sys.path)]
    return next((str(p.resolve() / word) for p in places if (p / word).is_file()), word)


def _executable(program: str, folder: Path) -> str:
    """A user's file as something that can be run: it travels without that permission."""
    if not os.path.isabs(program) or os.access(program, os.X_OK):
        return program
    with contextlib.suppress(OSError):
        copied = shutil.copy(program, folder)
        os.chmod(copied, 0o700)
        return str(copied)
    return program
