"""Real parts of the emulated project: a PostgreSQL, an image's files, the image's program."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from drillyard_emulators.http.wire import Request, Response
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "content-encoding"}


class Postgres:
    """A cluster of its own, on a socket alone, with the roles that Cloud SQL has."""

    def __init__(self) -> None:
        assert BIN is not None
        # A socket's path has at most 107 bytes, and the user postgres has to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="dy-pg-", dir="/tmp"))
        self.sockets = self.folder
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        password = self.folder / "password"
        password.write_text("admin")
        password.chmod(0o644)
        data = self.folder / "data"
        self._run(
            "initdb",
            "-D",
            str(data),
            "-U",
            "admin",
            "-A",
            "scram-sha-256",
            "--no-sync",
            f"--pwfile={password}",
        )
        options = f"-c listen_addresses='' -c fsync=off -k {self.sockets}"
        self._run(
            "pg_ctl", "-D", str(data), "-l", str(self.folder / "log"), "-w", "-o", options, "start"
        )
        self.sql("CREATE ROLE cloudsqlsuperuser")

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(BIN / program), *words],
            check=True,
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    def sql(self, text: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the administrator."""
        import psycopg

        with psycopg.connect(
            f"host={self.sockets} user=admin password=admin dbname={database}", autocommit=True
        ) as connection:
            done = connection.execute(text)
            return done.fetchall() if done.description else []

    def create_database(self, name: str) -> None:
        self.sql(f'CREATE DATABASE "{name}" OWNER cloudsqlsuperuser')

    def create_user(self, name: str, password: str) -> None:
        self.sql(f'CREATE ROLE "{name}" LOGIN IN ROLE cloudsqlsuperuser')
        self.set_password(name, password)

    def set_password(self, name: str, password: str) -> None:
        self.sql(f"ALTER ROLE \"{name}\" PASSWORD '{password}'")

    def remove(self) -> None:
        """End it, with its files."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


DOCKER = """#!/bin/sh
# What `docker build -t NAME .` takes in: the folder, and the name.
[ "$1" = build ] && [ "$2" = -t ] && [ "$4" = . ] && echo "$3" > built-as
"""


def built(script: str, folder: Path, uri: str) -> Path:
    """Run a build's script; the folder that docker was given."""
    shutil.rmtree(folder, ignore_errors=True)
    tools = folder / ".tools"
    tools.mkdir(parents=True)
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    subprocess.run(
        ["bash", "-c", script],
        check=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
    )
    assert (folder / "built-as").read_text().strip() == uri
    return folder


class Machine:
    """The image's program, as the service runs it.

    Args:
        image: Folder of the image.
        folder: For its log.
        env: That the service sets.
    """

    def __init__(self, image: Path, folder: Path, env: dict[str, str]) -> None:
        self.port = free_port()
        foreign = ("MLFLOW_", "GOOGLE_", "HTTPS_PROXY", "https_proxy")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self._log = folder / "server.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "entrypoint.py"],
                cwd=image,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**clean, **env, "PORT": str(self.port), "HOST": "127.0.0.1"},
            )

    def wait_healthy(self, path: str, timeout_s: float = PATIENCE_S) -> str | None:
        """None when it answers; else its last words."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return None
            time.sleep(0.2)
        return f"the container does not listen: {self._log.read_text()[-2000:]}"

    def forward(self, request: Request) -> Response:
        """Pass a request on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        query = f"?{request.query_text}" if request.query_text else ""
        headers = {k: v for k, v in request.headers.items() if k not in _HOP}
        if "content-encoding" in request.headers:
            headers["content-encoding"] = request.headers["content-encoding"]
        headers["accept-encoding"] = "identity"
        connection.request(request.method, request.path + query, request.body, headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        connection.close()
        return Response(answer.status, body, kept)

    def stop(self) -> None:
        """End it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
