"""The embedded Prefect server: one child for all commands of a user, gone with the last of them.

The server that Prefect starts by itself is left behind when its parent is killed, and is not
shared. Ours is: every command signs in under ``<home>/users/``, the first one starts the server,
and the server looks once a second whether anyone who signed in is still alive (pid and start
time), so it also ends after ``kill -9`` of all of them.

The listening socket is made by whoever starts the server and handed over, so that the port is
known at once, nobody else can take it, and early requests wait in its queue instead of being
refused.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drillyard.errors import ControlPlaneError
from drillyard.system.processes import ProcessId
from drillyard_flows import settings

LINGER_S = 3.0
"""How long the server waits for a next command after its last user is gone."""
START_TIMEOUT_S = 120.0
"""The first start migrates an empty database; on a busy machine that took half a minute."""


@dataclass(frozen=True)
class Server:
    """The API that this command uses.

    Args:
        api_url: ``http://host:port/api``.
        ui_url: What a person opens.
        ours: False for the one that PREFECT_API_URL or a profile names.
        home: Prefect's home of our own server.
        user: Our entry among its users.
    """

    api_url: str
    ui_url: str
    ours: bool
    home: Path | None = None
    user: Path | None = None

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Block until the API answers.

        Raises:
            ControlPlaneError: It did not within the time, or the child died.
        """
        deadline = time.monotonic() + timeout_s
        reason = "no answer"
        while time.monotonic() < deadline:
            try:
                _get(f"{self.api_url}/health", min(10.0, timeout_s))
                return
            except urllib.error.HTTPError as error:
                if error.code in (401, 403):
                    return  # alive; Prefect's client brings the credentials
                reason = str(error)
            except OSError as error:
                reason = str(error)
            if self.home is not None and _living(self.home) is None:
                raise ControlPlaneError(
                    "the embedded Prefect server ended while starting",
                    hint=f"its last words: {self.home / 'server.log'}",
                )
            if not self.ours:
                break
            time.sleep(0.05)
        raise ControlPlaneError(
            f"Prefect's API at {self.api_url} does not answer ({reason})",
            hint="start that server, or unset PREFECT_API_URL to use the embedded one",
        )

    def release(self) -> None:
        """Sign out; the server ends a moment later when nobody else is there."""
        if self.user is not None:
            self.user.unlink(missing_ok=True)


def acquire() -> Server:
    """The configured API, or our own server, started when it does not run. Returns at once.

    Raises:
        ControlPlaneError: The child cannot be started.
    """
    configured = settings.configured_api()
    if configured:
        return Server(configured, configured.removesuffix("/api"), ours=False)
    home = settings.home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # prefect.db holds its encryption key beside what it encrypts, and is made world-readable.
        home.chmod(0o700)
        (home / "users").mkdir(mode=0o700, exist_ok=True)
        with _locked(home):
            user = _sign_in(home)
            port = _living(home) or _start(home)
    except OSError as error:
        raise ControlPlaneError(
            f"the embedded Prefect server cannot be started in {home}: {error}",
            hint="set PREFECT_HOME to a folder you may write to",
        ) from error
    url = f"http://127.0.0.1:{port}"
    return Server(f"{url}/api", url, ours=True, home=home, user=user)


# -- who is there ------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with open(home / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive(entry: dict[str, Any]) -> bool:
    return ProcessId(int(entry["pid"]), float(entry["started"])).alive()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None


def _write(path: Path, entry: dict[str, Any]) -> None:
    part = path.with_suffix(f".{secrets.token_hex(4)}")
    part.write_text(json.dumps(entry), encoding="utf-8")
    part.replace(path)


def _sign_in(home: Path) -> Path:
    path = home / "users" / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    me = ProcessId.current()
    _write(path, {"pid": me.pid, "started": me.started})
    return path


def _users(home: Path) -> int:
    """How many users live; entries of dead ones are removed."""
    alive = 0
    for path in (home / "users").glob("*.json"):
        entry = _read(path)
        if entry is not None and _alive(entry):
            alive += 1
        else:
            path.unlink(missing_ok=True)
    return alive


def _living(home: Path) -> int | None:
    """The port of the server that runs in this home, or None."""
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
                # A Ctrl-C in the terminal must reach the command, not its server.
                start_new_session=True,
                cwd=home,
                umask=0o077,
            )
    # Reaped here, so that a server that died is not taken for a living zombie.
    threading.Thread(target=child.wait, daemon=True, name="prefect-server-reaper").start()
    server = ProcessId.of(child.pid)
    if server is not None:
        _write(home / "server.json", {"pid": server.pid, "started": server.started, "port": port})
    return port


def _get(url: str, timeout_s: float) -> bytes:
    # Proxies of the environment are for the outside, not for loopback.
    opener = (
        urllib.request.build_opener(urllib.request.ProxyHandler({}))
        if "//127.0.0.1:" in url
        else urllib.request.build_opener()
    )
    with opener.open(url, timeout=timeout_s) as answer:
        return bytes(answer.read())


# -- the child -----------------------------------------------------------------------------------


def _watch(home: Path, stop: Any) -> None:
    """End the server when its users are gone."""
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
            with _locked(home):
                if _users(home):  # someone signed in while we took the lock
                    empty_since = None
                    continue
                entry = _read(home / "server.json")
                if entry is not None and entry.get("pid") == os.getpid():
                    (home / "server.json").unlink(missing_ok=True)
        except OSError:
            pass  # the home was deleted under us: nobody can find this server any more
        stop()
        time.sleep(5.0)
        os._exit(0)


def main(argv: list[str]) -> None:
    """Serve until the last user is gone.

    Args:
        argv: Prefect's home, and the number of the inherited listening socket.
    """
    home, listener = Path(argv[0]), socket.socket(fileno=int(argv[1]))

    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(final=True)
    # No page of another site may talk to this server through a name that it points at us.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
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
