"""A store in a folder of another machine, over SFTP: no disk need be shared.

It has the rules and the files of the folder store: a temporary name, fsync, then a rename that
replaces (``posix-rename@openssh.com``) or a link that fails when the name is taken
(``hardlink@openssh.com``). Workers on that machine may use the folder directly, at the same time.
The folder itself is not synced: a power cut on the host may undo the last seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat as modes
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from drillyard.backend.settings.model import configured
from drillyard.backend.settings.resolve import resolve
from drillyard.errors import ConfigError, InfrastructureError, StoreUnavailable
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard.system.files import replacing
from drillyard_backends.ssh.connection import Connection
from drillyard_backends.ssh.settings import Address, SshConfig

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
_TMP = ".tmp-sftp-"
"""Has no number after ``.tmp-``: a worker on the host must not take us for its dead writer."""
_SWEEP_S = 86400.0
_CLOCK_S = 600.0
_SET_S = 2.0
"""By more than this, this machine's clock was set, or the machine slept."""
_CHUNK = 1 << 20
_WAIT_S, _SLOWEST = 600.0, 20_000.0
"""Seconds for work on files, and the bytes in a second below which a host counts as silent."""
_AT_ONCE = 16
_NO_LINKS = (
    "the file was written but could not be linked: check that the disk is not full and supports "
    "hard links (exFAT, FAT and gcsfuse do not). Claims need them: choose a folder on another "
    "disk with --store"
)


class SftpStore:
    """Objects as files under a folder of an SSH host.

    It logs in with the settings of the backend ``ssh`` (environment, settings file,
    ``~/.ssh/config``); see ``drillyard_backends.ssh.settings``.

    Args:
        url: ``sftp://[user@]host[:port]/absolute/path``, or ``sftp://host/~/path`` under the home.

    Raises:
        ConfigError: The URL names no host or no folder, or holds a password.
    """

    def __init__(self, url: str) -> None:
        self.address, self.folder = split(url)
        self.url = f"sftp://{self.address}/{self.folder.lstrip('/')}"
        self._config = configured(
            "ssh", SshConfig, resolve("ssh", {"hosts": [str(self.address)]}).revealed()
        )
        self._login = self._config.address(str(self.address))
        self._root = self.folder.removeprefix("~/")  # SFTP starts in the home
        self._ahead: tuple[float, float, float] | None = None
        """The lead, when it was measured, and this machine's time of day minus its monotonic."""

    def __repr__(self) -> str:
        return f"SftpStore({self.url!r})"

    def get(self, key: str) -> bytes:
        """Reads an object."""
        return self._do(key, lambda sftp: _read(sftp, self._path(key), key))

    def put(self, key: str, data: bytes) -> None:
        """Writes an object whole, replacing an existing one."""

        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with _temporary(sftp, self._path(key)) as temporary:
                await _write(sftp, temporary, data)
                await sftp.posix_rename(temporary, self._path(key))

        self._do(key, work, len(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes an object unless the key is taken; returns True if the stored object is ours."""

        async def work(sftp: asyncssh.SFTPClient) -> bool:
            import asyncssh

            target = self._path(key)
            async with _temporary(sftp, target) as temporary:
                await _write(sftp, temporary, data)
                try:
                    await sftp.link(temporary, target)
                except asyncssh.SFTPError as error:
                    # SFTP reports only "Failure" for a name that is taken.
                    if await _attributes(sftp, target) is None:
                        raise StoreUnavailable(
                            f"{error.reason} when claiming {key}", hint=_NO_LINKS
                        ) from error
                    # True also for a repeated call whose first answer was lost.
                    return await _read(sftp, target, key) == data
            return True

        return self._do(key, work, len(data))

    def stat(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object, or None."""
        attributes = self._do(key, lambda sftp: _attributes(sftp, self._path(key)))
        return None if attributes is None else _info(key, attributes)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields every object whose key starts with ``prefix``, sorted by key."""
        folder, _, start = prefix.rpartition("/")
        path = self._path(folder) if folder else self._root

        async def work(sftp: asyncssh.SFTPClient) -> list[ObjectInfo]:
            objects: list[ObjectInfo] = []
            limit = asyncio.Semaphore(_AT_ONCE)
            await _walk(sftp, path, f"{folder}/" if folder else "", start, objects, limit)
            return objects

        yield from sorted(self._do(prefix, work), key=lambda info: info.key)

    def delete(self, key: str) -> None:
        """Removes an object; a missing one is success."""

        async def work(sftp: asyncssh.SFTPClient) -> None:
            import asyncssh

            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                await sftp.remove(self._path(key))

        self._do(key, work)

    def upload(self, key: str, path: Path) -> None:
        """Writes an object from a file."""

        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with _temporary(sftp, self._path(key)) as temporary:
                await _write(sftp, temporary, b"")
                await sftp.put(str(path), temporary)
                async with sftp.open(temporary, "r+b", encoding=None) as file:
                    await file.fsync()
                await sftp.posix_rename(temporary, self._path(key))

        self._do(key, work, path.stat().st_size)

    def download(self, key: str, path: Path) -> None:
        """Reads an object into a file, atomically."""
        info = self.stat(key)

        with replacing(path) as beside:

            async def work(sftp: asyncssh.SFTPClient) -> None:
                attributes = await _attributes(sftp, self._path(key))
                if attributes is None or _is_folder(attributes):
                    raise ObjectMissing(key)
                await sftp.get(self._path(key), str(beside))

            self._do(key, work, info.size if info else None)

    def now(self) -> float:
        """Returns the time of the machine that stamps the files; reads it every ten minutes.

        It is also read when this machine's clock was set: the lead is no longer true then.
        """
        gap = time.time() - time.monotonic()
        if (
            self._ahead is None
            or time.monotonic() - self._ahead[1] > _CLOCK_S
            or abs(gap - self._ahead[2]) > _SET_S
        ):
            self._ahead = (self._measure_ahead(), time.monotonic(), gap)
        return time.time() + self._ahead[0]

    def sweep(self, experiment: str) -> int:
        """Removes temporary files of killed writers that are a day old; returns their number."""
        oldest = self.now() - _SWEEP_S

        async def work(sftp: asyncssh.SFTPClient) -> int:
            objects: list[ObjectInfo] = []
            await _walk(
                sftp,
                self._path(check_key(experiment)),
                "",
                "",
                objects,
                asyncio.Semaphore(_AT_ONCE),
                hidden=True,
            )
            old = [
                i
                for i in objects
                if i.key.rsplit("/")[-1].startswith(_TMP) and i.updated_at < oldest
            ]
            for info in old:
                await sftp.remove(f"{self._path(experiment)}/{info.key}")
            return len(old)

        return self._do(experiment, work)

    # -- inside -------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _measure_ahead(self) -> float:
        """Returns the lead of that machine's clock in seconds, accurate to half a second."""

        async def work(sftp: asyncssh.SFTPClient) -> float:
            async with _temporary(sftp, f"{self._root}/clock") as temporary:
                before = time.time()
                await _write(sftp, temporary, b"")
                attributes = await sftp.stat(temporary)
                # SFTP truncates times to whole seconds: half a second is the best estimate.
                return float(attributes.mtime or 0) + 0.5 - (before + time.time()) / 2

        return self._do("clock", work)

    def _do(
        self,
        key: str,
        work: Callable[[asyncssh.SFTPClient], Awaitable[T]],
        size: int | None = None,
    ) -> T:
        """Runs an operation; translates SFTP's errors."""
        import asyncssh

        try:
            # Looked up each time: a forked process needs its own connection.
            return Connection.to(self._login, self._config).files(
                work, _WAIT_S + (size or 0) / _SLOWEST
            )
        except ObjectMissing:
            raise
        except InfrastructureError as error:
            raise StoreUnavailable(f"store {self.url}: {error}", hint=error.hint) from error
        except asyncssh.SFTPError as error:
            raise StoreUnavailable(
                f"store {self.url}: {error.reason} at {key}", hint=_hint(error, size)
            ) from error


def split(url: str) -> tuple[Address, str]:
    """Returns host and folder of an ``sftp://`` URL; the folder is absolute or starts with ``~/``.

    Raises:
        ConfigError: It has no host or no folder, or it has a password.
    """
    form = "sftp://[user@]host[:port]/folder, or sftp://host/~/folder under the home folder there"
    parts = urlsplit(url)
    folder = unquote(parts.path).rstrip("/")
    if parts.query or parts.fragment or ":" in parts.netloc.rpartition("@")[0]:
        raise ConfigError(
            "is not a store",
            value="sftp://…",
            allowed=form,
            hint="SSH logs in by key; leave the password out",
        )
    folder = folder.removeprefix("/") if folder.startswith("/~/") else folder
    if not folder.strip("/~") or ".." in folder.split("/"):
        raise ConfigError(
            "names no folder",
            value=url,
            allowed=form,
            hint="for example sftp://lab.example.org/~/drillyard-runs",
        )
    try:
        return Address.parse(parts.netloc), folder
    except ValueError as error:
        raise ConfigError(str(error), value=url, allowed=form) from None


async def _read(sftp: asyncssh.SFTPClient, path: str, key: str) -> bytes:
    import asyncssh

    try:
        async with sftp.open(path, "rb", encoding=None) as file:
            data: str | bytes = await file.read()
            return data if isinstance(data, bytes) else data.encode()
    except asyncssh.SFTPNoSuchFile:
        raise ObjectMissing(key) from None
    except asyncssh.SFTPFailure:
        attributes = await _attributes(sftp, path)
        if attributes is None or _is_folder(attributes):  # a folder can be opened, but not read
            raise ObjectMissing(key) from None
        raise


async def _write(sftp: asyncssh.SFTPClient, path: str, data: bytes) -> None:
    """Writes a new file; creates its folder if it is missing."""
    import asyncssh

    try:
        opened = await sftp.open(path, "xb", encoding=None)
    except asyncssh.SFTPNoSuchFile:
        await _make_folders(sftp, path.rpartition("/")[0])
        opened = await sftp.open(path, "xb", encoding=None)
    async with opened as file:
        for start in range(0, len(data), _CHUNK):
            await file.write(data[start : start + _CHUNK])
        await file.fsync()


async def _make_folders(sftp: asyncssh.SFTPClient, folder: str) -> None:
    import asyncssh

    try:
        await sftp.makedirs(folder, exist_ok=True)
    except asyncssh.SFTPFailure:
        # Another writer created one of them between asyncssh's check and its mkdir.
        await sftp.makedirs(folder, exist_ok=True)


async def _attributes(sftp: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPAttrs | None:
    import asyncssh

    try:
        return await sftp.stat(path)
    except asyncssh.SFTPNoSuchFile:
        return None


def _is_folder(attributes: asyncssh.SFTPAttrs) -> bool:
    return modes.S_ISDIR(attributes.permissions or 0)


def _info(key: str, attributes: asyncssh.SFTPAttrs) -> ObjectInfo:
    return ObjectInfo(key, int(attributes.size or 0), float(attributes.mtime or 0))


@contextlib.asynccontextmanager
async def _temporary(sftp: asyncssh.SFTPClient, target: str) -> AsyncIterator[str]:
    """Yields a free name beside a target; removes the file at the end if it exists."""
    import asyncssh

    path = f"{target.rpartition('/')[0]}/{_TMP}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        yield path
    finally:
        with contextlib.suppress(asyncssh.Error, OSError):
            await sftp.remove(path)


async def _walk(
    sftp: asyncssh.SFTPClient,
    folder: str,
    prefix: str,
    start: str,
    found: list[ObjectInfo],
    limit: asyncio.Semaphore,
    hidden: bool = False,
) -> None:
    import asyncssh

    async with limit:
        try:
            entries = await sftp.readdir(folder)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNotADirectory):
            return
    folders: list[str] = []
    for entry in entries:
        name, attributes = str(entry.filename), entry.attrs
        if name in (".", "..") or not name.startswith(start):
            continue
        if name.startswith(".") and not hidden:
            continue
        mode = attributes.permissions or 0
        if modes.S_ISDIR(mode):
            folders.append(name)
        elif modes.S_ISREG(mode):
            found.append(_info(prefix + name, attributes))
    await asyncio.gather(
        *(_walk(sftp, f"{folder}/{n}", f"{prefix}{n}/", "", found, limit, hidden) for n in folders)
    )


def _hint(error: asyncssh.SFTPError, size: int | None) -> str:
    import asyncssh

    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return "no permission: choose another folder, or correct the permissions there"
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return "the server is not OpenSSH; drillyard needs its rename, link and fsync"
    needed = f" ({size} bytes to write)" if size else ""
    return f"check whether its disk is full{needed} or read-only; SFTP reports no more than this"
