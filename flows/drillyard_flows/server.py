"""The embedded Prefect server: one process for all commands of a user, stopped after the last.

The server that Prefect starts by itself is not shared, and keeps running if its parent is killed.
This one is shared: every command registers in ``<home>/users/``, the first one starts the server,
and the server checks once a second whether a registered process is alive (pid and start time). So
it also stops after ``kill -9`` of all of them.

The command that starts the server creates the listening socket and passes it on. So the port is
known at once, no other process can take it, and early requests wait in its queue.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from drillyard.checks.servers import in_cloud, trusting
from drillyard.errors import ControlPlaneError
from drillyard.system.files import locked, write_file
from drillyard.system.operating_system import SERVICE
from drillyard.system.processes import ProcessId
from drillyard_flows import settings
from drillyard_flows.same_origin import SameOrigin

if TYPE_CHECKING:
    from collections.abc import Callable

LINGER_S = 3.0
"""Seconds that the server waits for another command after its last user exited."""
START_TIMEOUT_S = 120.0
"""The first start migrates an empty database; on a busy machine that took half a minute."""

_HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Server:
    """The Prefect API that this command uses.

    Args:
        api_url: ``http://host:port/api``.
        ui_url: Address of the UI.
        ours: False if PREFECT_API_URL or a profile names the server.
        home: Prefect's home, for the embedded server.
        user: This command's entry among its users.
    """

    api_url: str
    ui_url: str
    ours: bool
    home: Path | None = None
    user: Path | None = None

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Waits until the API answers.

        Raises:
            ControlPlaneError: It did not answer in time, or the server process exited.
        """
        deadline = time.monotonic() + timeout_s
        reason = "no answer"
        while time.monotonic() < deadline:
            try:
                _get(f"{self.api_url}/health", min(10.0, timeout_s))
                return
            except urllib.error.HTTPError as error:
                if error.code in (401, 403) or (error.code == 404 and in_cloud(self.api_url)):
                    return  # it answers; Prefect's client sends the credentials
                reason = str(error)
            except OSError as error:
                reason = str(error)
            if self.home is not None and _living(self.home) is None:
                raise ControlPlaneError(
                    "the embedded Prefect server exited while starting",
                    hint=f"read its log {self.home / 'server.log'}",
                )
            if not self.ours:
                break
            time.sleep(0.05)
        raise ControlPlaneError(
            f"Prefect's API at {self.api_url} does not answer ({reason})",
            hint="start that server, or unset PREFECT_API_URL to use the embedded one",
        )

    def release(self) -> None:
        """Removes the entry; the server stops shortly after its last user."""
        if self.user is not None:
            self.user.unlink(missing_ok=True)


def acquire() -> Server:
    """Returns the configured API or the embedded server, which it starts if needed, at once.

    Raises:
        ControlPlaneError: The server process cannot be started.
    """
    configured = settings.configured_api()
    if configured:
        return Server(configured, configured.removesuffix("/api"), ours=False)
    home = settings.home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Prefect creates prefect.db world-readable, with its encryption key beside the secrets.
        home.chmod(0o700)
        (home / "users").mkdir(mode=0o700, exist_ok=True)
        with locked(home / "lock"):
            user = _sign_in(home)
            port = _living(home) or _start(home)
    except OSError as error:
        raise ControlPlaneError(
            f"the embedded Prefect server cannot be started in {home}: {error}",
            hint="set PREFECT_HOME to a folder that you can write to",
        ) from error
    url = f"http://127.0.0.1:{port}"
    return Server(f"{url}/api", url, ours=True, home=home, user=user)


# -- who is there ------------------------------------------------------------------------------


class Entry(TypedDict, total=False):
    """The file of a user, or of the server."""

    pid: int
    started: float
    port: int


def _alive(entry: Entry) -> bool:
    return ProcessId(int(entry["pid"]), float(entry["started"])).alive()


def _read(path: Path) -> Entry | None:
    try:
        entry: Entry = json.loads(path.read_text(encoding="utf-8"))
        return entry if isinstance(entry, dict) else None
    except (OSError, ValueError):
        return None


def _sign_in(home: Path) -> Path:
    path = home / "users" / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    me = ProcessId.current()
    write_file(path, json.dumps({"pid": me.pid, "started": me.started}))
    return path


def _users(home: Path) -> int:
    """Returns the number of live users; removes the entries of others."""
    alive = 0
    for path in (home / "users").glob("*.json"):
        entry = _read(path)
        if entry is not None and _alive(entry):
            alive += 1
        else:
            path.unlink(missing_ok=True)
    return alive


def _living(home: Path) -> int | None:
    """Returns the port of the server that runs in this home, or None."""
    entry = _read(home / "server.json")
    return int(entry["port"]) if entry is not None and _alive(entry) else None


# -- starting it --------------------------------------------------------------------------------


def _start(home: Path) -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        port = int(listener.getsockname()[1])
        with open(home / "server.log", "wb") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "drillyard_flows.server",
                    str(home),
                    str(listener.fileno()),
                ],
                env=settings.server_environment(home, port),
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal must reach the command, not its server.
                cwd=home,
                **SERVICE,
            )
    # Wait for it here, so that an exited server does not count as alive while it is a zombie.
    threading.Thread(target=child.wait, daemon=True, name="prefect-server-reaper").start()
    server = ProcessId.of(child.pid)
    if server is not None:
        entry = {"pid": server.pid, "started": server.started, "port": port}
        write_file(home / "server.json", json.dumps(entry))
    return port


def _get(url: str, timeout_s: float) -> bytes:
    # Proxies of the environment must not be used for loopback.
    direct = [urllib.request.ProxyHandler({})] if "//127.0.0.1:" in url else []
    opener = urllib.request.build_opener(trusting(), *direct)
    with opener.open(url, timeout=timeout_s) as answer:
        return bytes(answer.read())


# -- the child -----------------------------------------------------------------------------------


def _watch(home: Path, stop: Callable[[], object]) -> None:
    """Stops the server when its users are gone."""
    empty_since: float | None = None
    while True:
        time.sleep(1.0)
        try:
            if _users(home):
                empty_since = None
                continue
            empty_since = empty_since or time.monotonic()
            if time.monotonic() - empty_since < LINGER_S:
                continue
            with locked(home / "lock"):
                if _users(home):  # a user registered before the lock was acquired
                    empty_since = None
                    continue
                entry = _read(home / "server.json")
                if entry is not None and entry.get("pid") == os.getpid():
                    (home / "server.json").unlink(missing_ok=True)
        except OSError:
            pass  # the home was deleted, so no command can find this server
        stop()
        time.sleep(5.0)
        os._exit(0)


def main(argv: list[str]) -> None:
    """Serves until the last user is gone.

    Args:
        argv: Prefect's home, and the number of the inherited listening socket.
    """
    home, listener = Path(argv[0]), socket.socket(fileno=int(argv[1]))

    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(final=True)
    # A page of another site must not reach this server through a DNS name for loopback.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_HOSTS))
    port = listener.getsockname()[1]
    app.add_middleware(SameOrigin, origins=frozenset(f"http://{host}:{port}" for host in _HOSTS))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
            timeout_keep_alive=30,
        )
    )

    def stop() -> None:
        server.should_exit = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(home, stop), daemon=True, name="users").start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
