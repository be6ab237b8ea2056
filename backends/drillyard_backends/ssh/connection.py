"""SSH connections for callers without an event loop: one for each host and process.

asyncssh runs in its own thread; the caller waits for it. A connection that breaks is opened again.
A forked process opens its own connection: the parent's thread does not exist in the child.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict, TypeVar

from drillyard.errors import InfrastructureError
from drillyard.system.operating_system import after_fork
from drillyard_backends.ssh.failures import no_files, translated, unverified
from drillyard_backends.ssh.settings import Address, SshConfig

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
_KEEPALIVE_S = 15.0
_SESSIONS = 4
"""Concurrent commands on one connection; OpenSSH allows ten sessions, SFTP takes one."""
_TRY_S = 8.0
"""Seconds for which a broken connection is tried again; callers have their own time-outs, too."""
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command on a host."""

    code: int
    out: str
    err: str


class _Options(TypedDict, total=False):
    """Arguments of ``asyncssh.connect`` that the settings may give."""

    port: int
    username: str
    client_keys: list[str]
    agent_path: None
    known_hosts: str | bytes
    config: list[str]


class _Loop:
    """An event loop in a daemon thread, one for each process."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _loops: ClassVar[dict[int, asyncio.AbstractEventLoop]] = {}

    @classmethod
    def get(cls) -> asyncio.AbstractEventLoop:
        with cls._lock:
            loop = cls._loops.get(os.getpid())
            if loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="ssh", daemon=True).start()
                cls._loops[os.getpid()] = loop
            return loop


def _fresh_locks() -> None:
    # A lock that another thread of the parent held at the fork would never be released here.
    _Loop._lock = threading.Lock()
    Connection._open_lock = threading.Lock()


class Connection:
    """A host. It is connected on first use, and again after the connection was lost.

    Args:
        address: The host.
        config: How to log in.
    """

    _open_lock: ClassVar[threading.Lock] = threading.Lock()
    _open: ClassVar[dict[tuple[int, Address, str], Connection]] = {}

    def __init__(self, address: Address, config: SshConfig) -> None:
        self.address = address
        self.config = config
        self._client: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None
        self._connecting = asyncio.Lock()
        self._sessions = asyncio.Semaphore(_SESSIONS)

    @classmethod
    def to(cls, address: Address, config: SshConfig) -> Connection:
        """Returns the connection of this process to a host."""
        login = (config.key_file, config.known_hosts, config.config_file, config.user)
        key = (os.getpid(), address, repr(login))
        with cls._open_lock:
            connection = cls._open.get(key)
            if connection is None:
                connection = cls._open[key] = cls(address, config)
            return connection

    @classmethod
    def close_all(cls) -> None:
        """Closes the connections of this process; the next call opens them again."""
        with cls._open_lock:
            closing = [cls._open.pop(key) for key in list(cls._open) if key[0] == os.getpid()]
        for connection in closing:
            connection._wait(connection._close())

    def run(self, command: str, text: str = "", timeout_s: float = 120.0) -> Done:
        """Runs a shell command on the host.

        Args:
            command: The command, in the syntax of the login shell.
            text: Text for its standard input.
            timeout_s: Time limit in seconds.

        Raises:
            UserError: The host refuses the login, or its key is not trusted.
            InfrastructureError: The host does not answer, or the connection broke during the
                command, which may have run.
        """

        async def work() -> Done:
            client = await self._connected()
            async with self._sessions:
                try:
                    return await asyncio.wait_for(_done(client, command, text), timeout_s)
                except TimeoutError:
                    raise InfrastructureError(
                        f"{self.address} did not answer within {timeout_s:.0f} s: {command}",
                        hint="check whether that machine is overloaded",
                    ) from None

        return self._retried(work, again=False)

    def files(
        self, work: Callable[[asyncssh.SFTPClient], Awaitable[T]], timeout_s: float = 600.0
    ) -> T:
        """Works on the host's files; repeats the work if the connection breaks.

        Args:
            work: A function that is safe to repeat. SFTP's own errors pass through unchanged; a
                lost connection is not one of them.
            timeout_s: Time limit in seconds: a server is connected also while its disk hangs.

        Raises:
            UserError: The host refuses the login, or its key is not trusted.
            InfrastructureError: The host does not answer.
        """

        async def with_client() -> T:
            task = asyncio.ensure_future(work(await self._files()))
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            if not done:
                # It is not waited for: to clean up, it asks the host again. It ends with the
                # connection, which is closed for this error.
                task.cancel()
                raise InfrastructureError(
                    f"{self.address} did not finish work on its files within {timeout_s:g} s",
                    hint="check whether a disk of that machine hangs or is overloaded",
                )
            return task.result()

        return self._retried(with_client, again=True)

    # -- inside -------------------------------------------------------------------------------

    def _retried(self, work: Callable[[], Coroutine[object, object, T]], *, again: bool) -> T:
        import asyncssh

        broken = (
            asyncssh.DisconnectError,
            asyncssh.SFTPConnectionLost,
            asyncssh.SFTPNoConnection,
            asyncssh.ChannelOpenError,
            ConnectionError,
        )
        give_up = time.monotonic() + _TRY_S
        pause = _PAUSE_S
        while True:
            failure: InfrastructureError
            try:
                return self._wait(work())
            except InfrastructureError as error:
                failure = error
            except broken as error:
                failure = InfrastructureError(
                    f"the connection to {self.address} broke: {error}",
                    hint="check the network, then run the same command again",
                )
            self._wait(self._close())
            if not again or time.monotonic() + pause > give_up:
                raise failure
            time.sleep(pause)
            pause *= 2

    @staticmethod
    def _wait(work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, _Loop.get()).result()

    async def _connected(self) -> asyncssh.SSHClientConnection:
        async with self._connecting:
            if self._client is None or self._client.is_closed():
                self._client = self._sftp = None
                try:
                    self._client = await self._connect()
                except Exception as error:
                    await self._close()
                    raise translated(error, self.address, self.config) from error
            return self._client

    async def _files(self) -> asyncssh.SFTPClient:
        client = await self._connected()
        # Only work on files needs SFTP: a host without it can still run commands.
        async with self._connecting:
            if self._client is not client:
                raise ConnectionError("it was lost while SFTP began")
            if self._sftp is None:
                try:
                    # A server that is connected may still never answer, as on a disk that hangs.
                    self._sftp = await asyncio.wait_for(
                        client.start_sftp_client(), self.config.connect_timeout_s
                    )
                except Exception as error:
                    raise no_files(error, self.address, self.config) from error
            return self._sftp

    async def _connect(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        keys: list[asyncssh.SSHKey] = []
        trusted: list[bool] = []

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(
                self, host: str, addr: str, port: int, key: asyncssh.SSHKey
            ) -> bool:
                keys.append(key)
                trusted.append(_is_known(config, host, addr, port))
                return False  # asyncssh calls this only for a key that is not trusted

        address, config = self.address, self.config
        options: _Options = {}
        if address.port is not None:
            options["port"] = address.port
        if address.user is not None:
            options["username"] = address.user
        if config.key_file is not None:
            options["client_keys"] = [str(config.key_file.expanduser())]
            options["agent_path"] = None
        if config.known_hosts is not None:
            place = config.known_hosts.expanduser()
            options["known_hosts"] = str(place) if place.exists() else b""
        if config.config_file is not None:
            options["config"] = [str(config.config_file.expanduser())]
        try:
            return await asyncio.wait_for(
                asyncssh.connect(
                    address.host,
                    client_factory=Client,
                    password_auth=False,
                    kbdint_auth=False,
                    keepalive_interval=_KEEPALIVE_S,
                    keepalive_count_max=3,
                    connect_timeout=config.connect_timeout_s,
                    **options,
                ),
                config.connect_timeout_s,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise unverified(address, config, keys[0] if keys else None, any(trusted)) from error

    async def _close(self) -> None:
        client, self._client, self._sftp = self._client, None, None
        if client is not None:
            client.abort()


def _is_known(config: SshConfig, host: str, addr: str, port: int) -> bool:
    """Returns True if the file of trusted keys has any key of a host."""
    import asyncssh

    place = (config.known_hosts or Path("~/.ssh/known_hosts")).expanduser()
    try:
        known = asyncssh.match_known_hosts(str(place), host, addr, port)
    except (OSError, ValueError):
        return False
    return bool(known[0] or known[1])


after_fork(_fresh_locks)


async def _done(client: asyncssh.SSHClientConnection, command: str, text: str) -> Done:
    """Runs a command to its end.

    Raises:
        BrokenPipeError: The connection broke.
    """
    process = await client.create_process(command, errors="replace")
    try:
        out, err = await process.communicate(text)
    except BrokenPipeError:
        # It ended before it read its input. How it ended says more, for example that the shell
        # does not know the command.
        out, err = await process.communicate()
        if process.returncode is None:
            raise
    code = process.returncode if process.returncode is not None else -1
    return Done(code, str(out or ""), str(err or ""))
