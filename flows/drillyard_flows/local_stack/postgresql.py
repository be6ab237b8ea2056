"""A PostgreSQL of the house's own, where it is installed: for more than a few flow runs at once.

It listens on loopback only and asks for a password; its data is a folder of the house.
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
from drillyard_flows.local_stack.service import Member
from drillyard_flows.local_stack.stack import USER, LocalStack

NAME = "postgresql"
DATABASES = ("prefect", "mlflow")
_DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps a server's programs here, a folder a version, and not on the path."""


def programs(data: Path | None = None) -> Path | None:
    """The folder of ``initdb`` and ``postgres``; None where PostgreSQL is not installed.

    Args:
        data: Of a database that is there: only programs of its version can read it.
    """
    version = ""
    if data is not None and (data / "PG_VERSION").is_file():
        version = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    found = sorted(_DEBIAN.glob(f"{version or '*'}/bin"), key=lambda p: float(p.parent.name))
    if found:
        return found[-1]
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


def required(data: Path | None = None) -> Path:
    """``programs``, where they can be used.

    Raises:
        ConfigError: They are not installed, or this is the superuser, whom the server refuses.
    """
    found = programs(data)
    if found is None:
        raise ConfigError(
            "PostgreSQL is not installed",
            field="--database",
            value=NAME,
            allowed="sqlite",
            hint="Debian, Ubuntu: apt-get install postgresql",
        )
    if os.geteuid() == 0:
        raise ConfigError(
            "PostgreSQL does not run as root",
            field="--database",
            value=NAME,
            allowed="sqlite",
            hint="as another user; or name a server by PREFECT_API_DATABASE_CONNECTION_URL",
        )
    return found


def url(house: LocalStack, port: int, database: str, driver: str) -> str:
    """For SQLAlchemy; the password is in it."""
    password = house.passwords()[NAME]
    return f"postgresql+{driver}://{USER}:{password}@127.0.0.1:{port}/{database}"


def member(house: LocalStack, port: int, outside: Mapping[str, str]) -> Member:
    """The server as a member of the house.

    Args:
        house: Where its data is.
        port: Of loopback.
        outside: Its environment.

    Raises:
        ConfigError: It cannot run here.
    """
    data = house.folder / NAME
    found = required(data)
    asked = [str(found / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return Member(
        NAME,
        [
            str(found / "postgres"),
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
        ready=functools.partial(_ready, asked),
        before=functools.partial(_made, found, data, house),
        after=functools.partial(_databases, found, house, port),
    )


def _ready(command: list[str]) -> str | None:
    code = subprocess.run(command, capture_output=True, check=False).returncode
    return None if code == 0 else "it does not take connections yet"


def _made(found: Path, data: Path, house: LocalStack) -> None:
    if (data / "PG_VERSION").is_file():
        return
    # Made under another name first: what an interrupted initdb left is no database.
    shutil.rmtree(part := data.with_suffix(".part"), ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=house.folder) as password:  # its mode is 0600
        password.write(house.passwords()[NAME])
        password.flush()
        _run(
            [
                str(found / "initdb"),
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


def _databases(found: Path, house: LocalStack, port: int) -> None:
    login = {"PGPASSWORD": house.passwords()[NAME]}
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
    command = [
        str(found / "psql"),
        *where,
        "-d",
        "postgres",
        "-Atc",
        "select datname from pg_database",
    ]
    there = _run(command, login).split()
    for name in set(DATABASES) - set(there):
        _run([str(found / "createdb"), *where, name], login)


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    if done.returncode:
        raise InfrastructureError(
            f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}",
            hint="look at the folder of `drillyard up`, then drillyard up again",
        )
    return done.stdout
