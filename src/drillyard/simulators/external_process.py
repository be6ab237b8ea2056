"""A simulator's own process: started in its own folder, spoken to over a socket of its own.

drillyard listens on a free port of the loopback interface and the process connects to it, so that
no two copies can want the same port. One message a line, each a JSON object:

| drillyard says                                               | the simulator answers            |
|--------------------------------------------------------------|----------------------------------|
| (nothing: the simulator speaks first)                        | ``{"token": "…"}``               |
| ``{"type": "Idle"}``                                         | ``{}``                           |
| ``{"type": "EpisodeStart", "config": {…}, "seed": 1}``       | ``{"states": {…}}``              |
| ``{"type": "EpisodeStep", "actions": {…}}``                  | ``{"states": {…}, "terminated": …, "truncated": …}`` |

``{"error": "…"}`` instead of an answer ends the run. The end of the connection ends the simulator.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from drillyard.errors import SimulatorError
from drillyard.processes import ProcessId, end

HOST = "127.0.0.1"
LAST_WORDS = 10
"""Lines of its output that a message repeats."""
GRACE_S = 2.0
"""Between the end of the connection and SIGTERM, and between SIGTERM and SIGKILL."""
_LOOK_S = 0.1
"""Between two looks at a process that has not connected yet."""
log = logging.getLogger("drillyard.simulator")


class Lost(Exception):
    """The process died, hangs or talks nonsense; the message says which."""


class ExternalProcess:
    """One process and the connection to it; never started twice.

    Args:
        command: Program and arguments. ``{port}``, ``{token}``, ``{copy}`` and ``{folder}`` are
            filled in; words that name a file beside the experiment become its path. The
            environment has the same as ``DRILLYARD_PORT`` and so on.
        copy: Index of the copy.
        environment: Added to this process's own.

    Raises:
        SimulatorError: There is no such program.
    """

    def __init__(self, command: Sequence[str], copy: int, environment: dict[str, str]) -> None:
        self._copy = copy
        # Below the temporary folder of the attempt, which goes even after kill -9.
        self._folder = Path(tempfile.mkdtemp(prefix=f"simulator-{copy}-"))
        self._token = secrets.token_hex(16)
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._lines: Any = None
        self._connection: socket.socket | None = None
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(_LOOK_S)
        given = {"port": str(self._listener.getsockname()[1]), "token": self._token,
                 "copy": str(copy), "folder": str(self._folder)}  # fmt: skip
        words = [_filled(word, given) for word in command]
        words = [_own_file(word) for word in words]
        words[0] = _executable(words[0], self._folder)
        names = {f"DRILLYARD_{name.upper()}": value for name, value in given.items()}
        try:
            self._process = subprocess.Popen(
                words, cwd=self._folder, env={**os.environ, **environment, **names},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            self._listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SimulatorError(
                f"cannot be started: {error.strerror or error}", field="simulator.args.command",
                value=" ".join(command), allowed="a program on PATH or a file beside the "
                "experiment, and its arguments", hint="is it installed where the run works?",
            ) from error  # fmt: skip
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def connect(self, timeout_s: float) -> None:
        """Wait until the process has connected and answered.

        Raises:
            Lost: It ended, or did not come in time.
        """
        deadline = time.monotonic() + timeout_s
        while self._connection is None:
            if self._process.poll() is not None:
                raise Lost(f"{self._ending()} before it connected")
            if time.monotonic() >= deadline:
                raise Lost(f"did not connect to port {self._listener.getsockname()[1]} within "
                           f"{timeout_s:g} s")  # fmt: skip
            with contextlib.suppress(TimeoutError):
                self._greet(self._listener.accept()[0], max(deadline - time.monotonic(), _LOOK_S))
        self.ask({"type": "Idle"}, max(deadline - time.monotonic(), _LOOK_S))

    def _greet(self, connection: socket.socket, timeout_s: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        lines = connection.makefile("rb")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Any user of this machine can connect to its loopback interface.
            if secrets.compare_digest(str(json.loads(lines.readline())["token"]), self._token):
                self._connection, self._lines = connection, lines
                return
        log.warning("copy %d: a connection without the token was closed", self._copy)
        lines.close()
        connection.close()

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Say something, and give back the answer.

        Raises:
            Lost: No answer, or none that is a JSON object.
        """
        assert self._connection is not None
        what = message["type"]
        try:
            self._connection.settimeout(timeout_s)
            self._connection.sendall(json.dumps(message).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError as error:
            raise Lost(f"did not answer {what} within {timeout_s:g} s") from error
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)  # so that its exit code can be told
            raise Lost(f"{self._ending()} instead of answering {what}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Lost(f"answered {what} with {line[:80]!r}, which is no JSON object")
        return answer

    def last_words(self) -> str:
        """The last lines that it printed, for a message; empty where it printed none."""
        self._reader.join(_LOOK_S)
        return "".join(f"\n    {line}" for line in self._said)

    def close(self) -> None:
        """End the process and what it started; its folder goes with it."""
        tree = [self._process.pid, *_children(self._process.pid)]
        known = [found for pid in tree if (found := ProcessId.of(pid)) is not None]
        for part in (self._lines, self._connection, self._listener):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()
        if self._connection is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        end(known, GRACE_S)
        self._process.wait()
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
        """Its output into the log of the run; what nobody reads would block it."""
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
        made = shutil.copy(program, folder)
        os.chmod(made, 0o700)
        return str(made)
    return program


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []
