"""The folder of ``drillyard up``: ports, passwords and processes.

up.json       ports and processes; written before a process is relied on, and replaced
              atomically
secrets.json  generated passwords, and the address of a mail server; mode 0600
env.sh        variables that a shell needs to use the servers; mode 0600
logs/ prefect/ mlflow/ artifacts/
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.system.files import PRIVATE, locked, write_file
from drillyard.system.home import local_home
from drillyard.system.processes import ProcessId

USER = "drillyard"
PORTS = {"prefect": 4200, "mlflow": 5000, "relay": 4201}
"""Ports of a first start."""
SECRETS = ("prefect", "mlflow", "flask", "encryption", "relay")
"""Names of the generated passwords. The user gives ``mail``, which is stored beside them."""


class ProcessEntry(TypedDict):
    """A process in ``up.json``."""

    pid: int
    started: float


class State(TypedDict, total=False):
    """The content of ``up.json``."""

    ports: dict[str, int]
    database: str
    processes: dict[str, ProcessEntry]


@dataclass(frozen=True)
class LocalStack:
    """The servers of this machine, as their folder describes them.

    Args:
        folder: Folder that only its owner can read.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path | None) -> LocalStack:
        """Returns the stack in a folder; default: ``~/.drillyard/up``."""
        return cls((folder or local_home() / "up").expanduser().resolve())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder and locks it against other ``up`` and ``down`` commands.

        Raises:
            ConfigError: The folder cannot be written.
        """
        try:
            for part in ("", "logs", "prefect", "mlflow", "artifacts"):
                (self.folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            # The folder holds every secret: prefect.db is stored beside its encryption key.
            self.folder.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"cannot be written: {error.strerror}",
                field="--folder",
                value=str(self.folder),
                hint="choose a folder that you can write to: --folder DIR",
            ) from error
        with locked(self.folder / "lock"):
            yield

    def read(self) -> State:
        """Returns the content of ``up.json``; empty before the first start."""
        try:
            state: State = json.loads((self.folder / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write(self, state: State) -> None:
        """Replaces ``up.json``."""
        self._private("up.json", json.dumps(state, indent=2) + "\n")

    def process(self, name: str) -> ProcessId | None:
        """Returns a process of this stack if it is alive."""
        entry = self.read().get("processes", {}).get(name)
        if not entry:
            return None
        process = ProcessId(int(entry["pid"]), float(entry["started"]))
        return process if process.alive() else None

    def keep(self, name: str, process: ProcessId | None) -> None:
        """Records a process, or that it is gone."""
        state = self.read()
        processes = state.setdefault("processes", {})
        processes.pop(name, None)
        if process is not None:
            processes[name] = {"pid": process.pid, "started": process.started}
        self.write(state)

    def passwords(self) -> dict[str, str]:
        """Returns the generated passwords. The first call generates them."""
        stored = self._secrets()
        if set(SECRETS) - set(stored):
            for name in set(SECRETS) - set(stored):
                stored[name] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            self._private("secrets.json", json.dumps(stored))
        return {name: stored[name] for name in SECRETS}

    def mail(self, address: str | None = None) -> str | None:
        """Returns the address that receives alerts; a new one is stored for later starts."""
        stored = self._secrets()
        if address is not None:
            self._private("secrets.json", json.dumps({**stored, "mail": address}))
        return address or stored.get("mail")

    def _secrets(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "secrets.json").read_text(encoding="utf-8")))
        return {}

    def ports(self, requested: Mapping[str, int | None]) -> dict[str, int]:
        """Chooses the ports at the first start and returns the same ones later.

        Where another program uses a port that the user did not request, a free one is taken.

        Args:
            requested: Service to run -> the port that the user requested, or None.

        Raises:
            ConfigError: Another program uses a requested port, or the service runs elsewhere.
            ConfigErrors: This holds for several services.
        """
        problems: list[ConfigError] = []
        state = self.read()
        before = state.get("ports", {})
        chosen = {
            name: port or before.get(name) or PORTS[name] for name, port in requested.items()
        }
        for name, port in chosen.items():
            process = self.process(name)
            if process is not None and before.get(name) != port:
                problems.append(
                    ConfigError(
                        f"{name} runs on port {before.get(name)}",
                        field=f"--{name}-port",
                        value=port,
                        allowed=str(before.get(name)),
                        hint="run drillyard down first",
                    )
                )
            elif process is None and not _free(port):
                others = {p for n, p in chosen.items() if n != name}
                chosen[name] = _free_near(port, others)
                if requested[name] is not None:
                    problems.append(
                        ConfigError(
                            "another program uses this port",
                            field=f"--{name}-port",
                            value=port,
                            allowed="a free port",
                            hint=f"write --{name}-port {chosen[name]}, or leave it out to take "
                            "any free port",
                        )
                    )
        if len(problems) > 1:
            raise ConfigErrors(problems)
        if problems:
            raise problems[0]
        self.write({**state, "ports": {**before, **chosen}})
        return chosen

    def check_database(self) -> None:
        """Refuses a folder whose data is in a PostgreSQL server that nothing starts.

        Raises:
            ConfigError: An earlier version of ``up`` started that server.
        """
        variables = ("PREFECT_API_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI")
        missing = [name for name in variables if not os.environ.get(name)]
        if self.read().get("database") == "postgresql" and missing:
            raise ConfigError(
                "the data of this folder is in PostgreSQL, which `up` no longer starts",
                field="--folder",
                value=str(self.folder),
                hint=f"start it with `postgres -D {self.folder / 'postgresql'}` and name its "
                f"databases (user {USER}, password in secrets.json) in {' and '.join(missing)}; "
                "or choose a new folder",
            )

    def log_of(self, name: str) -> Path:
        """Returns the log file of a service."""
        return self.folder / "logs" / f"{name}.log"

    def exports(self, variables: Mapping[str, str]) -> Path:
        """Writes ``env.sh``."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return self._private("env.sh", "\n".join(lines) + "\n")

    def _private(self, name: str, text: str) -> Path:
        return write_file(self.folder / name, text, PRIVATE, sync=True)


def _free_near(port: int, others: set[int]) -> int:
    """Returns a free port above another one, or any free one."""
    for candidate in range(port + 10, min(port + 500, 65536), 10):
        if candidate not in others and _free(candidate):
            return candidate
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
