"""One SSH host: its far end is asked, its answers are understood, its troubles get a hint."""

from __future__ import annotations

import json
import shlex
from typing import Any

from drillyard import __version__, errors
from drillyard.backend import Lease, Liveness, Order
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.findings import Finding, Severity
from drillyard_backends.ssh.connection import Connection, Done
from drillyard_backends.ssh.remote import ANSWER
from drillyard_backends.ssh.settings import SshConfig

_NO_COMMAND = (126, 127)
_INSTALL = "install drillyard in an environment there (docs/ssh.md)"


class Host:
    """A machine that has drillyard.

    Args:
        text: Its address, as in the settings.
        config: How to log in, and what is where.
    """

    def __init__(self, text: str, config: SshConfig) -> None:
        self.address = config.address(text)
        self.config = config

    def __str__(self) -> str:
        return str(self.address)

    def check(self, part: Order | None, folder: str | None) -> list[Finding]:
        """What speaks against using this host.

        Args:
            part: What it would be asked for.
            folder: Of the store, where that is a folder of the machine that asks.
        """
        name = f"ssh {self}"
        said = self._ask("check", order=_json(part), folder=folder)
        seen = said["result"]
        found = [
            Finding(Severity.OK, name, f"drillyard {said['version']}, Python {seen['python']}")
            if said["version"] == __version__
            else Finding(
                Severity.WARNING,
                name,
                f"drillyard {said['version']} there, {__version__} here",
                f"install {__version__} there",
            )
        ]
        if seen["folder"] is False:
            shared = f"there is no folder {folder}: it must be on a disk that both machines share"
            fix = f"--store sftp://{self.address}/~/drillyard-runs"
            found.append(Finding(Severity.WARNING, name, shared, fix))
        return found + [
            Finding(Severity(s), f"{name} {subject}", message, fix)
            for s, subject, message, fix in seen["findings"]
        ]

    def provision(self, part: Order, experiment_sha256: str) -> Lease:
        """Start the agent of a lease here, unless it is alive."""
        said = self._ask("provision", order=_json(part), experiment_sha256=experiment_sha256)
        return Lease.model_validate(said["result"])

    def probe(self, lease_id: str) -> Liveness:
        """Is the agent of a lease alive here?"""
        lease = Lease(
            lease_id=lease_id,
            backend="local",
            created_at=0.0,
            order=Order(lease_id=lease_id, experiment="", store_url=""),
        )
        return Liveness(self._ask("probe", lease=_json(lease))["result"])

    def logs(self, lease: Lease) -> list[str]:
        """The agent's log."""
        return [str(line) for line in self._ask("logs", lease=_json(lease))["result"]]

    def teardown(self, lease: Lease) -> None:
        """End the agent and whatever is left of the lease here."""
        grace_s = self.config.stop_grace_s
        self._ask("teardown", timeout_s=120.0 + 2 * grace_s, lease=_json(lease))

    def leases(self) -> list[Lease]:
        """What lives here."""
        return [Lease.model_validate(found) for found in self._ask("leases")["result"]]

    # -- asking -------------------------------------------------------------------------------

    def _ask(self, verb: str, timeout_s: float = 120.0, **request: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {"stop_grace_s": self.config.stop_grace_s}
        if self.config.runtime is not None:
            settings["runtime"] = self.config.runtime
        text = json.dumps({"verb": verb, "settings": settings, **request})
        command = f"{_quoted(self.config.python)} -m drillyard_backends.ssh.remote"
        done = Connection.to(self.address, self.config).run(command, text, timeout_s)
        for line in reversed(done.out.splitlines()):
            if line.startswith(ANSWER):
                said: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                if "error" in said:
                    raise self._understood(said["error"])
                return said
        raise self._unanswered(done)

    def _understood(self, error: dict[str, Any]) -> DrillyardError:
        kind: Any = getattr(errors, str(error["kind"]), InfrastructureError)
        message = f"{self}: {error['message']}"
        if issubclass(kind, UserError):
            return UserError(message, hint=error["hint"])
        return InfrastructureError(message, hint=error["hint"])

    def _unanswered(self, done: Done) -> DrillyardError:
        python = self.config.python
        if done.code in _NO_COMMAND:
            return UserError(
                f"{self} has no interpreter {python!r}",
                hint="set backends.ssh.python to one that has drillyard, for example "
                f"~/drillyard/bin/python; {_INSTALL}",
            )
        if "No module named" in done.err:
            return UserError(
                f"{python!r} on {self} has no drillyard {__version__}: "
                f"{done.err.strip().splitlines()[-1]}",
                hint=f"{_INSTALL}, then set backends.ssh.python: ~/drillyard/bin/python",
            )
        last = (done.err.strip().splitlines() or [f"it ended with code {done.code}"])[-1]
        return InfrastructureError(
            f"{self} gave no answer: {last}",
            hint=f"try there: {python} -m drillyard_backends.ssh.remote < /dev/null",
        )


def _json(record: Order | Lease | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json")


def _quoted(path: str) -> str:
    """A path for a shell, ``~/`` still meaning the home."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)
