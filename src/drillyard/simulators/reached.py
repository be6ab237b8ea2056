"""Plants that run elsewhere and are reached by an address: what all of them have in common.

A lost connection costs the open episode, as a lost process does, see ``external``.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.errors import RunFailed, SimulatorError
from drillyard.simulators.channels import Channel
from drillyard.simulators.external import External
from drillyard.simulators.external_process import Answer, ConnectionLost, ExternalProcess
from drillyard.simulators.points import end_condition, must_be_inside, must_be_same_unit
from drillyard.simulators.types import Options, States
from drillyard.spec.agent import Act, AgentSpec, Observed
from drillyard.system.watchdog import keep_alive

Points = dict[str, list[Channel]]
"""``observation``: all that can be read; ``action``: what can be set. Names of the server."""
_DRIVERS: dict[str, int] = {}
"""Address of a plant -> the ``id`` of the copy of this process that began its last episode."""
_AGAIN_S = 0.5
"""Between two attempts to reach a server again."""


class Session(Protocol):
    """A connection to a server, for one copy."""

    def connect(self, timeout_s: float) -> None:
        """Waits until it is ready; raises ``ConnectionLost``."""

    def points(self) -> Points:
        """What the server offers; it is connected."""

    def use(self, reads: Mapping[str, str], acts: Mapping[str, str]) -> None:
        """Sets what each answer has and what each step gives: name -> name of the server."""

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Returns the answer to a message; raises ``ConnectionLost``."""

    def close(self) -> None:
        """Disconnects."""


Uses = tuple[dict[str, str], dict[str, str]]
"""What is read, and what is set: name -> name of the server."""


class Connection:
    """A server and the session with it, see ``external_process.Program``.

    Args:
        make: Makes a session that is not open, for an address.
        url: The address; ``{port}`` and ``{copy}`` are filled in.
        server: Process of the server; None for one that runs already.
        copy: Index of the copy.
        patient: Wait for a server that is away: it was there before.
    """

    def __init__(
        self,
        make: Callable[[str], Session],
        url: str,
        server: ExternalProcess | None,
        copy: int,
        patient: bool,
    ) -> None:
        port = "" if server is None else str(server.wire.port)
        self.url = url.replace("{copy}", str(copy)).replace("{port}", port)
        self._make, self._server, self._patient = make, server, patient or server is not None
        self.session = make(self.url)
        self.uses: Uses = {}, {}

    def connect(self, timeout_s: float) -> None:
        """Connects; a server that was started, or was there before, may need a while."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.session.connect(max(deadline - time.monotonic(), _AGAIN_S))
            except ConnectionLost:
                ended = None if self._server is None else self._server.ended()
                if ended:
                    raise ConnectionLost(f"{ended} before it answered") from None
                if not self._patient or time.monotonic() > deadline:
                    raise
                self.session.close()
                self.session = self._make(self.url)
                time.sleep(_AGAIN_S)

    def ask(self, message: JsonObject, timeout_s: float) -> Answer:
        """Returns the answer of the session."""
        self.session.use(*self.uses)
        return self.session.ask(message, timeout_s)

    def last_words(self) -> str:
        """The last lines of a server that was started here."""
        return "" if self._server is None else self._server.last_words()

    def close(self) -> None:
        """Disconnects, and ends a server that was started here."""
        self.session.close()
        if self._server is not None:
            self._server.close()


class Reached(External):
    """A simulator behind a server.

    Args:
        url: Its address.
        make: Makes a session that is not open, for an address.
        names: A name of the experiment -> a name of the server.
        ends: A condition that ends the episode: ``level > 1.9``.
        command: Starts the server, for each copy; None for one that runs already. ``python`` is
            the interpreter that trains.
        start_timeout_s: Longest time until the server is reached and ready, in seconds.
        step_timeout_s: Longest time for an answer, in seconds.
        restarts_per_hour: More lost connections end the run.

    Raises:
        SimulatorError: An argument that cannot be used.
    """

    field = "simulator.args.url"
    allowed = "the address of a server that is running"
    hint = "start the server, or correct the address; try it from the machine that trains"
    settable: tuple[str, ...] = ()
    """Names that a lesson may set besides those of the server."""
    shared = False
    """Whether a server simulates for each client that connects."""

    def __init__(
        self,
        url: str,
        make: Callable[[str], Session],
        names: Mapping[str, str] | None,
        ends: str | None,
        command: str | Sequence[str] | None,
        start_timeout_s: float,
        step_timeout_s: float,
        restarts_per_hour: int,
    ) -> None:
        given = command or [url]
        super().__init__(given, start_timeout_s, step_timeout_s, restarts_per_hour)
        if ("{port}" in url) != (command is not None):
            raise SimulatorError(
                "needs {port} if `command` starts the server, and only then",
                field="simulator.args.url",
                value=url,
                allowed="the address of a server that runs, or one with {port} and a command",
            )
        self.simulator_name, self._starts = url, command is not None
        self._url, self._make, self._names = url, make, dict(names or {})
        self._condition = end_condition(ends)
        self._uses: Uses = {}, {}
        self._opened: Connection

    def for_agent(self, agent: AgentSpec) -> Reached:
        """This simulator, for what the agent sees and does; connects to the server.

        Raises:
            SimulatorError: The server is away, or the agent does not fit its points.
        """
        try:
            points = self._points()
            counts = Counter(point.name for point in points["observation"])
            clear = [name for name, count in counts.items() if count == 1 and "=" not in name]
            readable = self._names or clear  # names, and not also their node ids
            reads = agent.reads(readable)
            reads += sorted(self._condition.names if self._condition else ())
            must_fit(agent, reads, self._names, points, self.settable)
        except BaseException:
            self.close()
            raise
        settable = [key for key in agent.resets or () if key not in self.settable]
        reads_by, acts_by = (
            {name: self._names.get(name, name) for name in given}
            for given in (reads, [*agent.acts, *settable])
        )
        self._uses = self._opened.uses = reads_by, acts_by
        return self

    def points(self) -> Points:
        """What the server offers.

        Raises:
            SimulatorError: It is away.
        """
        try:
            return self._points()
        finally:
            self.close()

    def use_copy(self, copy: int) -> None:
        """Be the copy of this index; a connection that is open is kept where it is the same.

        Raises:
            SimulatorError: Several copies would drive one plant.
        """
        if copy and not (self.shared or self._starts or "{copy}" in self._url):
            raise SimulatorError(
                "is the same plant for several copies, which would disturb each other",
                field="simulator.args.url",
                value=self._url,
                allowed="an address with {copy}, a `command` that starts a server for each copy, "
                "or train.n_envs: 1",
            )
        if self._process is not None and copy != self._copy and "{copy}" in self._url:
            self.close()
        self._copy = copy
        if self._process is None:
            # The packages of the server are those of this interpreter, whatever PATH says.
            words = [sys.executable if word == "python" else word for word in self._command]
            server = ExternalProcess(words, copy, {}, "http") if self._starts else None
            made = Connection(self._make, self._url, server, copy, self._ever_connected)
            made.uses = self._uses
            self._opened = self._process = made

    def reset(self, config: Options, rng: np.random.Generator) -> States:
        """Begins an episode."""
        states = super().reset(config, rng)
        if not (self.shared or self._starts):
            _DRIVERS[self._opened.url] = id(self)
        return states

    def step(self, actions: Options) -> States:
        """Steps once, if no other copy has begun an episode on the same plant since the reset."""
        if _DRIVERS.get(self._opened.url, id(self)) != id(self):
            raise RunFailed(
                f"another copy began an episode on the same plant, at {self._place()}",
                hint="an evaluation while training (`evaluate.every`) needs another plant: delete "
                "it, or let `command` start a server for each copy",
            )
        return super().step(actions)

    def close(self) -> None:
        """Disconnects."""
        super().close()
        self._connected = False

    def terminated(self) -> bool:
        """The condition of ``ends`` holds, or the server says so."""
        if self._condition is None or self._ends[1]:
            return super().terminated()
        return bool(self._ends[0] or self._condition.value(self._states))

    def _points(self) -> Points:
        try:
            with keep_alive(f"reaching {self._url}"):
                self._connect()
            points = self._opened.session.points()
        except ConnectionLost as lost:
            self._restart(lost)
            raise
        self._connected = self._ever_connected = True
        return points


def must_fit(
    agent: AgentSpec,
    reads: list[str],
    names: Mapping[str, str],
    points: Points,
    settable: tuple[str, ...] = (),
) -> None:
    """Refuses an agent that does not fit the points of a server.

    Raises:
        SimulatorError: An unknown name, one that is there twice or cannot be set, a unit or a
            range that contradicts the server's, or two actions that set the same point.
    """

    def one(name: str, kind: str, field: str) -> Channel:
        known = {point.name: point for point in points[kind]}
        own = names.get(name, name)
        count = sum(point.name == own for point in points[kind])
        if count == 1:
            return known[own]
        message = "is there twice on the server" if count else "is not on the server"
        if kind == "action" and any(p.name == own for p in points["observation"]) and not count:
            message = "cannot be set"
        raise SimulatorError(
            message,
            field=field,
            value=own,
            known=[n for n in known if "=" not in n] if not count else None,
            hint="give its exact id: simulator.args: {names: {…}}" if count else None,
        )

    for name in reads:
        observed = agent.observes.get(name)
        field = f"simulator.agent.observes.{name}" if observed else f"simulator.agent: {name}"
        point = one(name, "observation", field)
        if observed is not None:
            _same_unit(name, point, observed, field)
    writers: dict[str, str] = {}
    for name, act in agent.acts.items():
        field = f"simulator.agent.acts.{name}"
        point = one(name, "action", field)
        _same_unit(name, point, act, field)
        for value in (act.min, act.max, *(act.values or ())):
            if isinstance(value, int | float):
                must_be_inside(name, point, value, field)
        if point.name in writers:
            raise SimulatorError(
                f"sets the same point as {writers[point.name]}",
                field=field,
                value=point.name,
                hint="remove one of the two",
            )
        writers[point.name] = f"the action {name}"
    for key in agent.resets or ():
        if key not in settable:
            one(key, "action", "simulator.agent.resets")


def _same_unit(name: str, point: Channel, given: Observed | Act, field: str) -> None:
    units = {"on the server": point.unit, "in the experiment": given.unit}
    must_be_same_unit(name, units, f"{field}.unit")
