"""One SSH host: sends requests to its remote end, and adds hints to its errors."""

from __future__ import annotations

import json
import shlex

from drillyard import __version__, errors
from drillyard.backend import Lease, Liveness, Order
from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.mailbox.records import WorkerRecord
from drillyard_backends.ssh.connection import Connection, Done
from drillyard_backends.ssh.remote import ANSWER, Answer, Failure
from drillyard_backends.ssh.settings import SshConfig
from drillyard_backends.ssh.store import split

_NO_COMMAND = (126, 127)
_INSTALL = "install drillyard in an environment there (python -m venv ~/drillyard)"


class Host:
    """A machine that has drillyard.

    Args:
        text: Its address, as in the settings.
        config: How to log in, and the paths on the host.
    """

    def __init__(self, text: str, config: SshConfig) -> None:
        self.address = config.address(text)
        self.config = config

    def __str__(self) -> str:
        return str(self.address)

    def check(self, part: Order | None, folder: str | None) -> list[Finding]:
        """Returns what speaks against using this host.

        Args:
            part: The part of an order that it would get.
            folder: Folder of the store, if it is on this machine.
        """
        name = f"ssh {self}"
        reply = self._ask("check", order=_json(part), folder=folder)
        result, version = as_object(reply["result"]), reply["version"]
        findings = [
            passed(name, f"drillyard {version}, Python {result['python']}")
            if version == __version__
            else warning(
                name,
                f"drillyard {version} there, {__version__} here",
                f"install {__version__} there",
            )
        ]
        if result["folder"] is False:
            shared = f"there is no folder {folder}: it must be on a disk that both machines share"
            fix = f"--store sftp://{self.address}/~/drillyard-runs"
            findings.append(warning(name, shared, fix))
        if result.get("store") is not None:
            url = part.store_url if part is not None else "the store"
            findings.append(
                problem(
                    f"{name} store",
                    f"this machine cannot reach {url} by itself, and drillyard copies no key "
                    f"to it: {result['store']}",
                    self._way_to(url),
                )
            )
        for row in _items(result["findings"]):
            level, subject, message, advice = _items(row)
            findings.append(
                Finding(
                    Severity(str(level)),
                    f"{name} {subject}",
                    str(message),
                    None if advice is None else str(advice),
                )
            )
        return findings

    def _way_to(self, url: str) -> str:
        """Returns how workers on this host can get to a store that they cannot reach."""
        if url.startswith("sftp://"):
            # Not a store on this host: then the others could not reach it.
            there = split(url)[0].host
            return (
                f"make `ssh {there} true` work on {self} without a password, under the same name; "
                "or use a bucket, or a disk that all machines share"
            )
        return (
            "give it an identity of its own that can read and write there, or use a store on it: "
            f"--store sftp://{self.address}/~/drillyard-runs"
        )

    def provision(self, part: Order, experiment_sha256: str) -> Lease:
        """Starts the agent of a lease on the host unless it is alive."""
        reply = self._ask(
            "provision",
            order=_json(part),
            experiment_sha256=experiment_sha256,
            address=self.address.host,
        )
        return Lease.model_validate(reply["result"])

    def probe(
        self,
        lease_id: str,
        worker: WorkerRecord | None = None,
        agent: JsonObject | None = None,
    ) -> Liveness:
        """Returns whether the agent of a lease, or one worker of it, is alive on the host.

        Args:
            lease_id: The lease.
            worker: The worker; None asks for the agent, whichever worker it is.
            agent: What ``provision`` said of the agent. The machine that answers now may be
                another one: one name may lead to several.
        """
        lease = Lease(
            lease_id=lease_id,
            backend="local",
            created_at=0.0,
            order=Order(lease_id=lease_id, experiment="", store_url=""),
            provider=agent or {},
        )
        return Liveness(
            str(self._ask("probe", lease=_json(lease), worker=_json(worker))["result"])
        )

    def logs(self, lease: Lease) -> list[str]:
        """Returns the lines of the agent's log."""
        return [str(line) for line in _items(self._ask("logs", lease=_json(lease))["result"])]

    def teardown(self, lease: Lease) -> None:
        """Ends the agent and every other process of the lease on the host."""
        grace_s = self.config.stop_grace_s
        self._ask("teardown", timeout_s=120.0 + 2 * grace_s, lease=_json(lease))

    def leases(self) -> list[Lease]:
        """Returns the leases with a running process on the host."""
        return [Lease.model_validate(row) for row in _items(self._ask("leases")["result"])]

    # -- requests -----------------------------------------------------------------------------

    def _ask(self, verb: str, timeout_s: float = 120.0, **request: Json) -> Answer:
        settings: JsonObject = {"stop_grace_s": self.config.stop_grace_s}
        if self.config.runtime is not None:
            settings["runtime"] = self.config.runtime
        text = json.dumps({"verb": verb, "settings": settings, **request})
        command = f"{_quoted(self.config.python)} -m drillyard_backends.ssh.remote"
        done = Connection.to(self.address, self.config).run(command, text, timeout_s)
        for line in reversed(done.out.splitlines()):
            if line.startswith(ANSWER):
                reply: Answer = json.loads(line.removeprefix(ANSWER))
                if "error" in reply:
                    raise self._translated(reply["error"])
                return reply
        raise self._unanswered(done)

    def _translated(self, error: Failure) -> DrillyardError:
        kind: type[DrillyardError] = getattr(errors, error["kind"], InfrastructureError)
        message = f"{self}: {error['message']}"
        if issubclass(kind, UserError):
            return UserError(message, hint=error["hint"])
        return InfrastructureError(message, hint=error["hint"])

    def _unanswered(self, done: Done) -> DrillyardError:
        python = self.config.python
        if done.code in _NO_COMMAND:
            return UserError(
                f"{self} has no interpreter {python!r}",
                hint="set backends.ssh.python to an interpreter with drillyard, for example "
                f"~/drillyard/bin/python; {_INSTALL}",
            )
        if "No module named" in done.err:
            return UserError(
                f"{python!r} on {self} has no drillyard {__version__}: "
                f"{done.err.strip().splitlines()[-1]}",
                hint=f"{_INSTALL}, then set backends.ssh.python: ~/drillyard/bin/python",
            )
        last = (done.err.strip().splitlines() or [f"it exited with code {done.code}"])[-1]
        return InfrastructureError(
            f"{self} did not answer: {last}",
            hint=f"try on the host: {python} -m drillyard_backends.ssh.remote < /dev/null",
        )


def _items(value: Json) -> list[Json]:
    """Returns a list in an answer. Anything else must not be taken for an empty list."""
    if not isinstance(value, list):
        raise InfrastructureError(f"unexpected answer of a host: {value!r} is not a list")
    return value


def _json(record: Order | Lease | WorkerRecord | None) -> JsonObject | None:
    return None if record is None else record.model_dump(mode="json")


def _quoted(path: str) -> str:
    """Quotes a path for a shell; ``~/`` still means the home folder."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)
