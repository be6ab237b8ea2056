"""Simulators in another language: a process a copy, restarted when it dies.

A plain simulator for ``simulator.agent``; see ``external_process`` for the messages.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import RunFailed, SimulatorError
from drillyard.simulators.external_process import (
    Answer,
    ConnectionLost,
    ExternalProcess,
    Program,
)
from drillyard.simulators.external_wires import WIRES
from drillyard.simulators.types import Options, States
from drillyard.system.watchdog import keep_alive

HOUR_S = 3600.0
_SEEDS = 2**31
log = logging.getLogger(__name__)


class External:
    """A simulator that is a program of its own.

    If a process dies, hangs or sends an invalid answer, the current episode is cut as at a time
    limit: the lost step returns the previous states again. Another process is started for the
    next episode.

    Args:
        command: Program and arguments, a text or a list; with ``image`` what runs in the
            container, by default what the image says.
        start_timeout_s: Longest time until the process has connected.
        step_timeout_s: Longest time for an answer.
        restarts_per_hour: More restarts end the run.
        environment: Variables for the process.
        protocol: ``lines`` over a socket on which drillyard listens, or ``http`` where the
            simulator does.
        image: A container's; it runs on the network of this machine.

    Raises:
        SimulatorError: An argument is not what it should be, or nothing here runs containers.
    """

    field = "simulator.args.command"
    allowed = (
        "a program that connects to 127.0.0.1:$DRILLYARD_PORT, or listens there (protocol: http)"
    )
    hint = "the documentation shows a whole one: Use a program as a simulator"
    thread_safe = True
    """Hosts have its copies in threads: each waits for a process of its own."""

    def __init__(
        self,
        command: str | Sequence[str] = "",
        start_timeout_s: float = 120.0,
        step_timeout_s: float = 30.0,
        restarts_per_hour: int = 5,
        environment: Mapping[str, str] | None = None,
        protocol: str = "lines",
        image: str | None = None,
    ) -> None:
        words = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
        if protocol not in WIRES:
            raise SimulatorError(
                "is not a known protocol",
                field="simulator.args.protocol",
                value=protocol,
                known=WIRES,
            )
        self._protocol, self._container = protocol, None if image is None else container_tool()
        if not words and image is None:
            raise SimulatorError(
                "is empty",
                field="simulator.args.command",
                value=command,
                allowed="a program and its arguments",
                hint="for example: perl tank.pl",
            )
        _must_be_at_least(
            start_timeout_s=start_timeout_s, step_timeout_s=step_timeout_s, least=1e-3
        )
        _must_be_at_least(restarts_per_hour=restarts_per_hour, least=0)
        self._environment = {str(k): str(v) for k, v in (environment or {}).items()}
        if self._container is not None and image is not None:
            words = container_command(self._container, image, words, self._environment)
        self._command = words
        self._start_timeout_s, self._step_timeout_s = start_timeout_s, step_timeout_s
        self._per_hour = restarts_per_hour
        self._copy = 0
        self._process: Program | None = None
        self._connected = self._ever_connected = False
        self._restarts: deque[float] = deque()
        self._in_episode = 0
        self._steps, self._seed = 0, 0
        self._states: States = {}
        self._ends = (False, False)

    def use_copy(self, copy: int) -> None:
        """Be the copy of this index, and begin to start: copies start side by side."""
        self._copy = copy
        self._process = ExternalProcess(
            self._command, copy, self._environment, self._protocol, self._container
        )

    def reset(self, config: Options, rng: np.random.Generator) -> States:
        """Begins an episode, in a new process if the last one is lost."""
        self._steps, self._in_episode, self._ends = 0, 0, (False, False)
        self._seed = int(rng.integers(_SEEDS))
        while True:
            try:
                answer = self._ask(
                    {"type": "EpisodeStart", "config": _plain(config), "seed": self._seed}
                )
                return self._taken(answer)
            except ConnectionLost as lost:
                self._restart(lost)

    def step(self, actions: Options) -> States:
        """Steps once; if the process is lost, the episode is cut."""
        self._steps += 1
        try:
            return self._taken(self._ask({"type": "EpisodeStep", "actions": _plain(actions)}))
        except ConnectionLost as lost:
            self._restart(lost)
            self._ends = (False, True)
            return self._states

    def terminated(self) -> bool:
        """As the process answered."""
        return self._ends[0]

    def truncated(self) -> bool:
        """As the process answered, or True if it was lost."""
        return self._ends[1]

    def notes(self) -> dict[str, float]:
        """``kpi_restarts``: how often the process was lost in this episode."""
        return {"kpi_restarts": self._in_episode}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _ask(self, message: JsonObject) -> Answer:
        if not self._connected:
            with keep_alive(f"starting {self._command[0]}, copy {self._copy}"):
                self._connect()
            self._connected = self._ever_connected = True
        assert self._process is not None
        return self._process.ask(message, self._step_timeout_s)

    def _connect(self) -> None:
        if self._process is None:
            self.use_copy(self._copy)
        assert self._process is not None
        self._process.connect(self._start_timeout_s)

    def _taken(self, answer: Answer) -> States:
        if "error" in answer:
            raise RunFailed(
                f"the simulator says at {self._place()}: {answer['error']}",
                hint="it could still answer, so it was not restarted; fix the reported error",
            )
        states = answer.get("states")
        if not isinstance(states, dict):
            raise ConnectionLost(f"answered without `states`: {str(answer)[:80]}")
        self._states = states
        self._ends = (bool(answer.get("terminated")), bool(answer.get("truncated")))
        return states

    def _restart(self, lost: ConnectionLost) -> None:
        assert self._process is not None
        words = self._process.last_words()
        ending = f"; its last words:{words}" if words else ""
        self._process.close()
        self._process, self._connected = None, False
        if not self._ever_connected:
            raise SimulatorError(
                f"{lost}{ending}",
                field=self.field,
                value=" ".join(self._command),
                allowed=self.allowed,
                hint=self.hint,
            )
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] >= HOUR_S:
            self._restarts.popleft()
        self._restarts.append(now)
        self._in_episode += 1
        n = len(self._restarts)
        if n > self._per_hour:
            raise RunFailed(
                f"the simulator was lost {n} times within an hour, the last time at "
                f"{self._place()}: it {lost}{ending}",
                hint="fix it, or allow more: simulator.args.restarts_per_hour",
            )
        log.warning(
            "the simulator was lost at %s: it %s; started again (%d of %d in an hour)%s",
            self._place(),
            lost,
            n,
            self._per_hour,
            ending,
        )
        # It starts while the learner goes on; the next episode waits for it.
        self.use_copy(self._copy)

    def _place(self) -> str:
        when = f"step {self._steps}" if self._steps else "the start"
        return f"{when} of an episode (copy {self._copy}, its seed {self._seed})"

    def __del__(self) -> None:
        """Ends the process if ``close`` was forgotten."""
        with contextlib.suppress(Exception):
            self.close()


def _must_be_at_least(least: float, **limits: float) -> None:
    for name, value in limits.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or value < least:
            raise SimulatorError(
                "is not a valid limit",
                field=f"simulator.args.{name}",
                value=value,
                allowed=f"a number from {least:g} on",
                hint=f"delete `{name}:` for the default",
            )


def container_tool() -> str:
    """What runs containers here.

    Raises:
        SimulatorError: Nothing does.
    """
    for tool in ("docker", "podman"):
        if shutil.which(tool):
            return tool
    raise SimulatorError(
        "needs a container, and neither docker nor podman is on PATH",
        field="simulator.args.image",
        allowed="a machine with docker or podman",
        hint="install one, run the simulator as a "
        "`command:` without a container, or choose a backend whose machines have it",
    )


def container_command(
    tool: str, image: str, words: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """The line that runs a simulator in a container.

    On the machine's own network, so that both protocols reach 127.0.0.1; values of variables
    stay out of the line, where every user of the machine could read them.
    """
    names = ["DRILLYARD_PORT", "DRILLYARD_TOKEN", "DRILLYARD_COPY", *environment]
    given = [word for name in names for word in ("--env", name)]
    return [
        tool,
        "run",
        "--rm",
        "--init",
        "--network",
        "host",
        "--name",
        "drillyard-{name}",
        *given,
        image,
        *words,
    ]


def _plain(values: Mapping[str, Json | np.generic]) -> JsonObject:
    """Numbers of numpy as JSON has them."""
    return {str(k): v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
