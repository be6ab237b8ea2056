"""The workload ``service``: a program that is started, is ready, serves others, and is stopped.

As a child of a composite on one machine, it is ready before any child runs, and stops after all of
them. As a stage with machines of its own, it says where it is reached in
``runs/<run>/service.json``, and serves until the driver of the composite writes the order to stop.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from drillyard.documents.json_types import JsonObject
from drillyard.errors import (
    ConfigError,
    DrillyardError,
    InfrastructureError,
    ProcessKilled,
    RunFailed,
    TimedOut,
)
from drillyard.findings import Finding, passed
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import driven
from drillyard.mailbox.records import FileEntry, Manifest
from drillyard.mailbox.stage_records import Release, Serving, release_key, serving_key
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import run_parameters
from drillyard.spec.service import ServiceSpec
from drillyard.spec.stages import SEPARATOR
from drillyard.system.kills import KILLED, killed
from drillyard.system.operating_system import oom_kills
from drillyard.system.proxies import NoRedirect
from drillyard.worker.machine_share import FIRST_PORT
from drillyard.workloads import variables
from drillyard.workloads.commands import LATE_STOP_S, CommandContext, raise_if_stopped
from drillyard.workloads.measured import Measured, announce, save_metrics
from drillyard.workloads.script import commands_of, prepare

LOOPBACK = "127.0.0.1"
_LOOK_S = 0.1
_ASK_S = 2.0
"""Seconds for one answer of a service, and between two looks for the order to stop."""
AWAY_S = 600.0
"""Seconds after which a service ends that has no driver and no run that uses it."""
_LOOK_FOR_DRIVER_S = 15.0
_HURRY_S = 4.0
"""Longest stop when this worker itself is stopped: it is killed soon after."""
_FAR = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737): the system says through which of its own addresses it
would send to it, and sends nothing."""


class ServiceWorkload(Measured):
    """Starts a program, waits until it is ready, and stops it."""

    kind = "service"

    def __init__(self) -> None:
        self._commands: CommandContext | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._host, self._port, self._output = "", 0, Path()
        self._began = 0.0
        self._ready_s = 0.0
        self._oom_kills = oom_kills()

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """See ``Workload.check``."""
        service = _service(spec)
        known = run_parameters(spec, run="t0001-s1", seed=1)
        variables.names(service.environment, known, "service.environment")
        del folder
        ways = [n for n in ("http", "output", "command") if getattr(service.ready, n) is not None]
        way, limit_s = (*ways, "its port")[0], service.ready.timeout_s
        return [passed("service", f"ready by {way} within {limit_s:g} s; then it serves")]

    def train(self, context: RunContext) -> PhaseOutcome:
        """Serve until the order to stop.

        Raises:
            RunFailed: It is not ready in time, or it ended by itself.
            InfrastructureError: Its output cannot be kept: a full disk.
        """
        announce(context)
        try:
            self.setup(context)
            self._tell(context)
            outcome = self._serve(context)
        except BaseException:
            self.teardown(context, failed=True)
            raise
        self.teardown(context)
        return outcome

    # -- stages, also called by a composite ---------------------------------------------------

    def setup(self, context: RunContext) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RunFailed: A command failed, or it ended before it was ready.
            TimedOut: It was not ready in time.
        """
        service = _service(context.spec)
        folder = prepare(context)
        variables.write_file(folder / "parameters.json", context.run.parameters)
        self._host = service.host or own_address(context.spec.places)
        self._port = service.port or free_port()
        address = {"HOST": self._host, "PORT": str(self._port)}
        self._commands = commands = commands_of(context, service, "parameters.json", **address)
        self._output = commands.keep_output(context.scratch, context.child or "service")
        if service.setup:
            commands.run("setup", service.setup, service.setup_max_time_s)
        self._began = time.monotonic()
        self._process = commands.begin("start", service.start)
        context.progress(message=f"waits for the service at {self._host}:{self._port}")
        self._wait_until_ready(context, service)
        self._ready_s = time.monotonic() - self._began
        at = f"{self._host}:{self._port}"
        context.log.info("ready at %s after %.1f s", at, self._ready_s)
        context.progress(message=f"serves at {at}")

    def run(self, context: RunContext) -> PhaseOutcome:
        """As a child on the same machine: others use it from now on."""
        self._must_live()
        return self._outcome(context)

    def teardown(self, context: RunContext, *, failed: bool = False) -> None:
        """Stop it: its own commands, SIGTERM, SIGKILL."""
        commands, process = self._commands, self._process
        if commands is None:
            return
        service = _service(context.spec)
        limit = service.stop_timeout_s
        if context.stop.requested:
            limit = min(limit, _HURRY_S)
        commands.stop = None
        commands.abort_on_error = False
        try:
            if process is not None and process.poll() is None and service.stop:
                commands.run("stop", service.stop, limit)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(limit)
        except DrillyardError as error:
            if not failed:
                raise
            context.log.error("stop: %s", error)
        finally:
            commands.end_all(limit)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(limit)
            context.log.info("the service is stopped")
            self._commands = self._process = None

    # -- inside -------------------------------------------------------------------------------

    def _wait_until_ready(self, context: RunContext, service: ServiceSpec) -> None:
        deadline = time.monotonic() + service.ready.timeout_s
        while not self._ready(service):
            self._must_live()
            context.stop.check()
            if time.monotonic() >= deadline:
                raise TimedOut(
                    f"the service was not ready after {service.ready.timeout_s:g} s"
                    + self._said(),
                    hint="raise service.ready.timeout_s; does it listen on HOST and PORT, which "
                    "are in its environment?",
                )
            time.sleep(_LOOK_S)

    def _ready(self, service: ServiceSpec) -> bool:
        ready = service.ready
        if ready.output is not None:
            return self._has_printed(ready.output)
        if ready.command is not None:
            return self._command_succeeds(service)
        if ready.http is not None:
            return _answers(self._host, self._port, ready.http)
        return _accepts(self._host, self._port)

    def _has_printed(self, pattern: str) -> bool:
        if not self._output.exists():
            return False
        text = self._output.read_text(encoding="utf-8", errors="replace")
        return any(re.search(pattern, line) for line in text.splitlines())

    def _command_succeeds(self, service: ServiceSpec) -> bool:
        assert self._commands is not None and service.ready.command is not None
        try:
            self._commands.run("ready", [service.ready.command], service.ready.timeout_s)
        except (RunFailed, ProcessKilled):
            return False
        return True

    def _must_live(self) -> None:
        assert self._process is not None and self._commands is not None
        code = self._process.poll()
        if code is not None:  # many services end at SIGTERM with code 0
            raise_if_stopped(self._commands.stop, LATE_STOP_S)
        self._commands.raise_if_lost()
        if code in KILLED:
            raise killed(f"the service was ended by SIGKILL{self._said()}", self._oom_kills)
        if code is not None:
            raise RunFailed(
                f"the service ended by itself with code {code}{self._said()}",
                hint="`start` must serve until it receives SIGTERM; a program that goes into the "
                "background needs an option to stay in the foreground",
            )

    def _said(self) -> str:
        return "" if self._commands is None else self._commands.last_words()

    def _tell(self, context: RunContext) -> None:
        """Say where it is reached."""
        where = Serving(
            attempt=context.attempt,
            host=self._host,
            port=self._port,
            ready_at=context.clock.now(),
        )
        context.mailbox.must_own(context.claim)
        context.mailbox.write(serving_key(context.run.run), where)

    def _serve(self, context: RunContext) -> PhaseOutcome:
        due, look_at, away_since = 0.0, 0.0, None
        while True:
            self._must_live()
            context.stop.check()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_FOR_DRIVER_S
                away_since = self._needed(context, away_since)
            if time.monotonic() >= due:
                due = time.monotonic() + _ASK_S
                with contextlib.suppress(InfrastructureError):  # it serves on meanwhile
                    order = context.mailbox.read(release_key(context.run.run), Release)
                    if order is not None:
                        context.log.info("stops: %s", order.reason)
                        return self._outcome(context)
            time.sleep(_LOOK_S)

    def _needed(self, context: RunContext, since: float | None) -> float | None:
        """See whether anything still uses it; without a driver, no order to stop ever comes.

        Args:
            context: The run.
            since: Since when nothing does (monotonic); None: something does.

        Returns:
            The same as of now.

        Raises:
            RunFailed: Nothing has used it for ``AWAY_S``.
        """
        try:
            needed = driven(context.mailbox) or _used(context)
        except InfrastructureError:
            return since  # unknown: it serves on
        if needed:
            return None
        since = time.monotonic() if since is None else since
        if time.monotonic() - since >= AWAY_S:
            raise RunFailed(
                f"the driver has been gone for {AWAY_S:g} s, and no run uses this service",
                hint="the same command starts it again",
            )
        return since

    def _outcome(self, context: RunContext) -> PhaseOutcome:
        metrics = {"ready_s": self._ready_s}
        files: dict[str, FileEntry] = save_metrics(context, metrics, {})
        summary: JsonObject = {
            "wall_s": time.monotonic() - self._began,
            "metrics": {**metrics},
            "parameters": dict(context.run.parameters),
        }
        return PhaseOutcome(files=Manifest(files=files), summary=summary)


def _used(context: RunContext) -> bool:
    """Whether a run of a stage that waits for this service is at work."""
    stage = context.spec.stage_of
    return stage is not None and any(
        state.status is Status.RUNNING
        for user in stage.users
        for state in ticket_states(
            Mailbox(context.mailbox.store, f"{stage.of}{SEPARATOR}{user}")
        ).values()
    )


def own_address(backends: Iterable[str]) -> str:
    """The address under which other machines reach this one; nothing is sent."""
    if all(text.partition("/")[0] == "local" for text in backends):
        return LOOPBACK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_FAR)
        except OSError:  # no way out
            return LOOPBACK
        return str(probe.getsockname()[0])


def free_port() -> int:
    """The first port of this run's share of the machine, or any free one."""
    given = os.environ.get(FIRST_PORT)
    if given is not None:
        return int(given)
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _ASK_S).close()
    except OSError:
        return False
    return True


def _answers(host: str, port: int, path: str) -> bool:
    # A redirect is an answer, too.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
    place = f"[{host}]" if ":" in host else host
    try:
        opener.open(f"http://{place}:{port}{path}", timeout=_ASK_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 400
    except (OSError, ValueError):
        return False
    return True


def _service(spec: ExperimentSpec) -> ServiceSpec:
    if spec.service is None:
        raise ConfigError("a `service` needs `service:`", field="service")
    return spec.service
