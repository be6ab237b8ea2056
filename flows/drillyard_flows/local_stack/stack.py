"""The folder of ``drillyard up``: ports, passwords, and which processes were started.

up.json       ports, database and processes; written before a process is counted on, replaced
              atomically
secrets.json  generated passwords, and the address of a mail server; mode 0600
env.sh        what a shell exports to use the servers, mode 0600
logs/ prefect/ mlflow/ artifacts/
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drillyard.errors import ConfigError
from drillyard.system.home import local_home
from drillyard.system.processes import ProcessId

USER = "drillyard"
PORTS = {"prefect": 4200, "mlflow": 5000, "relay": 4201, "postgresql": 4202}
"""Of a first start."""
SECRETS = ("prefect", "mlflow", "flask", "encryption", "relay", "postgresql")
"""Generated; ``mail`` beside them is given."""


@dataclass(frozen=True)
class LocalStack:
    """A folder and what is in it.

    Args:
        folder: Only its owner can read it.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path | None) -> LocalStack:
        """The house in a folder; default: ``up`` in drillyard's own."""
        return cls((folder or local_home() / "up").expanduser().resolve())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and let nobody else start or stop anything here meanwhile.

        Raises:
            ConfigError: It cannot be written.
        """
        try:
            for part in ("", "logs", "prefect", "mlflow", "artifacts"):
                (self.folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            # What is in it opens every door: prefect.db lies beside its encryption key.
            self.folder.chmod(0o700)
            lock = open(self.folder / "lock", "a")  # noqa: SIM115  closed below
        except OSError as error:
            raise ConfigError(
                f"cannot be written: {error.strerror}",
                field="--folder",
                value=str(self.folder),
                hint="choose a folder of your own: --folder DIR",
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, Any]:
        """``up.json``; empty before the first start."""
        try:
            found = json.loads((self.folder / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return dict(found) if isinstance(found, dict) else {}

    def write(self, found: Mapping[str, Any]) -> None:
        """Replace ``up.json``."""
        self._private("up.json", json.dumps(found, indent=2) + "\n")

    def process(self, name: str) -> ProcessId | None:
        """A process that was started here and lives."""
        entry = self.read().get("processes", {}).get(name)
        if not entry:
            return None
        found = ProcessId(int(entry["pid"]), float(entry["started"]))
        return found if found.alive() else None

    def keep(self, name: str, process: ProcessId | None) -> None:
        """Remember a process, or that it is gone."""
        found = self.read()
        processes = found.setdefault("processes", {})
        processes.pop(name, None)
        if process is not None:
            processes[name] = {"pid": process.pid, "started": process.started}
        self.write(found)

    def passwords(self) -> dict[str, str]:
        """The generated ones; made at the first call and then the same for ever."""
        found = self._secrets()
        if set(SECRETS) - set(found):
            import base64

            for name in set(SECRETS) - set(found):
                key = secrets.token_bytes(32)
                found[name] = base64.urlsafe_b64encode(key).decode()
            self._private("secrets.json", json.dumps(found))
        return {name: found[name] for name in SECRETS}

    def mail(self, given: str | None = None) -> str | None:
        """Where alerts are mailed to; what is given is kept for all later starts."""
        found = self._secrets()
        if given is not None:
            self._private("secrets.json", json.dumps({**found, "mail": given}))
        return given or found.get("mail")

    def _secrets(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "secrets.json").read_text(encoding="utf-8")))
        return {}

    def ports(self, wanted: Mapping[str, int | None]) -> dict[str, int]:
        """The ports of a first start, kept for all later ones.

        Args:
            wanted: Member that is to run -> the port that was asked for, or None.

        Raises:
            ConfigError: One is somebody else's.
        """
        found = self.read()
        before = found.get("ports", {})
        chosen = {name: port or before.get(name) or PORTS[name] for name, port in wanted.items()}
        for name, port in chosen.items():
            living = self.process(name)
            if living is not None and before.get(name) != port:
                raise ConfigError(
                    f"{name} runs on port {before.get(name)}",
                    field=f"--{name}-port",
                    value=port,
                    allowed=str(before.get(name)),
                    hint="drillyard down first",
                )
            if living is None and not _free(port):
                raise ConfigError(
                    "another process listens there",
                    field=f"--{name}-port",
                    value=port,
                    allowed="a free port",
                    hint=f"--{name}-port {port + 10}",
                )
        self.write({**found, "ports": {**before, **chosen}})
        return chosen

    def database(self, wanted: str | None) -> str:
        """``sqlite`` or ``postgresql``: the one of the first start, because data does not move.

        Raises:
            ConfigError: Another one is wanted than the one that has the data.
        """
        found = self.read()
        before = found.get("database") or ("sqlite" if found else None)
        if wanted and before and wanted != before:
            raise ConfigError(
                f"the data of {self.folder} is in {before}",
                field="--database",
                value=wanted,
                allowed=before,
                hint="another folder begins with another database: --folder DIR",
            )
        chosen = before or wanted or "sqlite"
        self.write({**found, "database": chosen})
        return str(chosen)

    def log_of(self, name: str) -> Path:
        """Where a member's output goes."""
        return self.folder / "logs" / f"{name}.log"

    def exports(self, variables: Mapping[str, str]) -> Path:
        """Write ``env.sh``."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return self._private("env.sh", "\n".join(lines) + "\n")

    def _private(self, name: str, text: str) -> Path:
        path = self.folder / name
        part = self.folder / f".{name}.{os.getpid()}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return path


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
