"""This machine as a backend: one detached agent for each lease, in its own session.

The same agent runs on a VM, too; ``sessions`` finds, lists and ends it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from drillyard.backend import Cost, Lease, Liveness, Order, Trait
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import UserError
from drillyard.findings import Finding, passed, problem, warning
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.operating_system import LINUX, usable_cores
from drillyard.system.scratch import RUNTIME
from drillyard.worker import gpu
from drillyard_backends.sessions import Sessions, default_runtime


class LocalConfig(BaseSettings):
    """Settings of the backend ``local``; in the environment: ``DRILLYARD_LOCAL_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="DRILLYARD_LOCAL_", extra="forbid")

    runtime: Path | None = Field(
        None,
        description="Folder for logs and scratch files of agents; default: a folder of "
        "yours under the system's temporary folder.",
    )
    stop_grace_s: float = Field(
        10.0, ge=0, le=600, description="Seconds that running tickets get to flush at teardown."
    )


@translating()
class LocalBackend:
    """Rents processes of this machine.

    Args:
        clock: Clock for the timestamps of leases.
        **settings: See ``LocalConfig``.

    Raises:
        ConfigError: Unknown or impossible settings.
    """

    kind = "local"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS})
    Config = LocalConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Json) -> None:
        self.config = configured(self.kind, LocalConfig, settings)
        self._sessions = Sessions(
            self.kind,
            self.config.runtime or default_runtime(),
            _agent,
            self.config.stop_grace_s,
            clock,
        )

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks the space for scratch files, cores and GPUs; changes nothing."""
        place = next(
            p for p in (self._sessions.runtime, *self._sessions.runtime.parents) if p.exists()
        )
        free = shutil.disk_usage(place).free
        findings = [
            passed("local", f"{free / 2**30:.1f} GiB free for scratch files in {place}")
            if free > 1e9
            else warning(
                "local",
                f"only {free / 1e6:.0f} MB free in {place}",
                f"free some space, or set {RUNTIME} to a larger disk",
            ),
        ]
        if not os.access(place, os.W_OK):
            findings.append(problem("local", f"{place} cannot be written", f"set {RUNTIME}"))
        if order is None:
            return findings
        cores, threads = usable_cores(), order.workers * order.threads
        if threads > cores:
            findings.append(
                warning(
                    "resources",
                    f"{order.workers} workers of {order.threads} threads share {cores} cores",
                    f"set resources.workers to {max(1, cores // order.threads)}",
                )
            )
        if order.gpus and LINUX and not Path("/dev/nvidiactl").exists():
            findings.append(
                problem(
                    "resources.gpus",
                    f"resources.gpus is {order.gpus}, but this machine has no NVIDIA driver",
                    "set resources.gpus to 0 and device to auto, or choose another backend",
                )
            )
        else:
            try:
                gpu.compare(order)
            except UserError as error:
                findings.append(problem("resources.gpus", error.message, error.hint))
        return findings

    def provision(self, order: Order) -> Lease:
        """Starts the agent of a lease unless it is alive; returns at once."""
        return self._sessions.provision(order)

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns ALIVE while the agent runs, and UNKNOWN on another machine."""
        return self._sessions.probe(lease)

    def launch(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: the agent pulls."""

    def logs(
        self, lease: Lease, handle: JsonObject | None = None, since: int = 0
    ) -> Iterator[str]:
        """Yields the lines of the agent's log, also after the teardown."""
        return self._sessions.logs(lease, since)

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: no ticket was pushed. The agent reads ``control/cancel.json``."""

    def teardown(self, lease: Lease) -> None:
        """Ends the agent, which stops its tickets, and then every other process of the lease."""
        self._sessions.teardown(lease)

    def leases(self) -> Iterator[Lease]:
        """Yields the leases of this user on this machine that have a running process."""
        return self._sessions.leases()

    def estimate(self, order: Order) -> Cost:
        """Returns a cost of zero."""
        return Cost(note="your own machine")


def _agent(order: Order, folder: Path) -> list[str]:
    """Returns the command of a lease's agent."""
    return [
        sys.executable,
        "-m",
        "drillyard.worker",
        "--order-file",
        str(folder / "order.json"),
        "--scratch",
        str(folder / "scratch"),
    ]
