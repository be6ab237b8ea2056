"""A PostgreSQL server of the stack, for more than a few flow runs at once.

It listens on loopback only and requires a password. Its data is in a folder of the stack.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from drillyard.errors import ConfigError, InfrastructureError
from drillyard_flows.local_stack.service import Service
from drillyard_flows.local_stack.stack import USER, LocalStack

NAME = "postgresql"
DATABASES = ("prefect", "mlflow")
_DEBIAN = Path("/usr/lib/postgresql")
"""Debian installs the server programs here, in one folder for each version, not on the path."""


def programs(data: Path | None = None) -> Path | None:
    """Returns the folder of ``initdb`` and ``postgres``; None if PostgreSQL is not installed.

    Args:
        data: Folder of an existing database, which only programs of its version can read.
    """
    version = ""
    if data is not None and (data / "PG_VERSION").is_file():
        version = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    folders = sorted(_DEBIAN.glob(f"{version or '*'}/bin"), key=lambda p: float(p.parent.name))
    if folders:
        return folders[-1]
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


def required(data: Path | None = None) -> Path:
    """Returns ``programs`` if they can be used.

    Raises:
        ConfigError: They are not installed, or this user is root, which the server refuses.
    """
    folder = programs(data)
    if folder is None:
        raise ConfigError(
            "PostgreSQL is not installed",
            field="--database",
            value=NAME,
            allowed="sqlite",
            hint="on Debian and Ubuntu: apt-get install postgresql",
        )
    if os.geteuid() == 0:
        raise ConfigError(
            "PostgreSQL does not run as root",
            field="--database",
            value=NAME,
            allowed="sqlite",
            hint="use another user; or name a server in PREFECT_API_DATABASE_CONNECTION_URL",
        )
    return folder


def url(stack: LocalStack, port: int, database: str, driver: str) -> str:
    """Returns the URL for SQLAlchemy, with the password."""
    password = stack.passwords()[NAME]
    return f"postgresql+{driver}://{USER}:{password}@127.0.0.1:{port}/{database}"


def service(stack: LocalStack, port: int, outside: Mapping[str, str]) -> Service:
    """Returns the server as a service of the stack.

    Args:
        stack: The stack that has its data.
        port: Loopback port.
        outside: Its environment.

    Raises:
        ConfigError: It cannot run on this machine.
    """
    data = stack.folder / NAME
    folder = required(data)
    is_ready = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return Service(
        NAME,
        [
            str(folder / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ],
        outside,
        ready=functools.partial(_not_ready, is_ready),
        before=functools.partial(_create_cluster, folder, data, stack),
        after=functools.partial(_create_databases, folder, stack, port),
    )


def _not_ready(command: list[str]) -> str | None:
    code = subprocess.run(command, capture_output=True, check=False).returncode
    return None if code == 0 else "it does not accept connections yet"


def _create_cluster(folder: Path, data: Path, stack: LocalStack) -> None:
    if (data / "PG_VERSION").is_file():
        return
    # Create it under another name first: an interrupted initdb leaves an unusable folder.
    shutil.rmtree(part := data.with_suffix(".part"), ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=stack.folder) as password:  # its mode is 0600
        password.write(stack.passwords()[NAME])
        password.flush()
        _run(
            [
                str(folder / "initdb"),
                "-D",
                str(part),
                "-U",
                USER,
                "-A",
                "scram-sha-256",
                "--pwfile",
                password.name,
                "--encoding",
                "UTF8",
                "--locale",
                "C",
            ],
            {},
        )
    part.rename(data)


def _create_databases(folder: Path, stack: LocalStack, port: int) -> None:
    login = {"PGPASSWORD": stack.passwords()[NAME]}
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
    command = [
        str(folder / "psql"),
        *where,
        "-d",
        "postgres",
        "-Atc",
        "select datname from pg_database",
    ]
    existing = _run(command, login).split()
    for name in set(DATABASES) - set(existing):
        _run([str(folder / "createdb"), *where, name], login)


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    if done.returncode:
        raise InfrastructureError(
            f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}",
            hint="look at the folder of `drillyard up`, then run drillyard up again",
        )
    return done.stdout
