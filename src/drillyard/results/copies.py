"""Where results are copied to: a folder, anything that has a store (``gs://…``), or ``mlflow``.

A target takes files by name and can say whether it has one with a given hash, by reading it back.
That is all the copying needs: what is there is skipped, what was written is verified.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError, InfrastructureError, StoreUnavailable, UserError
from drillyard.mailbox.files import fetch_file, has_file, sha256_file
from drillyard.mailbox.keys import encoded
from drillyard.mailbox.records import FileEntry
from drillyard.mailbox.store import Store, open_store
from drillyard.runs.workload import RunContext
from drillyard.tracking.uris import is_azure, local_folder, mask, resolve_uri

MLFLOW = "mlflow"
_TRIES = 3
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class Target(Protocol):
    """A place that copies go to."""

    shown: str
    """For messages; no credentials in it."""

    def has(self, name: str, entry: FileEntry, scratch: Path) -> bool:
        """True when the file is there with this hash, found by reading it back.

        Args:
            name: As in the run's folder.
            entry: Size and sha256.
            scratch: A local path that may be written to.
        """

    def write(self, name: str, path: Path) -> None:
        """Write a file whole."""


class StoreCopies:
    """Copies in a store: ``<url>/<experiment>/<run>/<name>``, the name as in ``keys.encoded``.

    Args:
        store: The place.
        prefix: ``<experiment>/<run>``.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self.shown = f"{mask(store.url).rstrip('/')}/{prefix}"

    def has(self, name: str, entry: FileEntry, scratch: Path) -> bool:
        """True when the file is there with this hash."""
        return has_file(self._store, f"{self._prefix}/{encoded(name)}", entry, scratch)

    def write(self, name: str, path: Path) -> None:
        """Write a file whole.

        Raises:
            UserError: We may not write there: trying again does not help.
            StoreUnavailable: It failed for another reason.
        """
        try:
            self._store.upload(f"{self._prefix}/{encoded(name)}", path)
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NOT_OURS:
                raise UserError(
                    f"store target {self.shown} cannot be written: {cause.strerror}",
                    hint="fix its permissions or name another place under `store:`, then run "
                    "the same command again; training and evaluation are kept",
                ) from error
            raise


class MlflowCopies:
    """Copies as artifacts of the run's MLflow run.

    Args:
        context: Context of the store ticket.
        uri: The tracking server.
    """

    def __init__(self, context: RunContext, uri: str) -> None:
        from drillyard.tracking.environment import bounded_http
        from drillyard.tracking.mlflow_mirror import MlflowMirror

        self.shown = f"mlflow at {mask(uri)}"
        if is_azure(uri):
            raise UserError(
                f"{self.shown} keeps no files of ours",
                hint="store: [{url: az://…}] does",
            )
        self._bounded = bounded_http
        with self._bounded(_MLFLOW_TIMEOUT_S):
            self._server, self._run_id = MlflowMirror(context.mailbox, uri).ensure_run(
                context.run.run
            )

    def has(self, name: str, entry: FileEntry, scratch: Path) -> bool:
        """True when the artifact is there with this hash."""
        folder = scratch.with_name(f"{scratch.name}.d")
        folder.mkdir(parents=True, exist_ok=True)
        with self._bounded(_MLFLOW_TIMEOUT_S):
            path = self._server.fetch_file(self._run_id, name, folder)
        if path is None:
            return False
        same = sha256_file(path) == entry.sha256
        path.unlink()
        return same

    def write(self, name: str, path: Path) -> None:
        """Write an artifact."""
        with self._bounded(_MLFLOW_TIMEOUT_S):
            self._server.send_file(self._run_id, path, name)


_MLFLOW_TIMEOUT_S = 60.0


def place_of(url: str, store_url: str) -> str:
    """A target's URL with a relative folder made absolute.

    A relative folder counts from the folder that the local store lies in: a worker's own working
    directory is nowhere in particular.

    Raises:
        UserError: Relative, and the store is not on a local disk.
    """
    if urlsplit(url).scheme or url == MLFLOW or Path(url).expanduser().is_absolute():
        return url
    folder = local_folder(store_url)
    if folder is None:
        raise UserError(
            f"store target {url!r} is a relative folder, and workers of {mask(store_url)} have no "
            "folder of yours",
            hint="give gs://bucket/prefix or another URL that every worker reaches",
        )
    return str(folder.parent / url)


def same_place(url: str, store_url: str) -> bool:
    """True when a target is the mailbox's own store: its globs then say what is published."""
    if url == MLFLOW:
        return False
    folder, other = local_folder(store_url), local_folder(place_of(url, store_url))
    if folder is not None and other is not None:
        return folder == other
    return url.rstrip("/") == store_url.rstrip("/")


def open_target(url: str, context: RunContext) -> Target:
    """The target behind a URL, looked at before anything is copied.

    Raises:
        UserError: It cannot work: no such folder, no tracking server.
        PluginError: Nothing is registered for the scheme.
        InfrastructureError: It does not answer.
    """
    if url == MLFLOW:
        setting = context.spec.tracking.mlflow or "auto"
        uri = resolve_uri(setting, context.mailbox.store.url)
        if uri is None:
            raise UserError(
                "store target `mlflow`: there is no tracking server",
                hint="set MLFLOW_TRACKING_URI or `tracking: {mlflow: http://…}`",
            )
        return MlflowCopies(context, uri)
    place = place_of(url, context.mailbox.store.url)
    folder = local_folder(place)
    if folder is not None:
        check_folder(url, folder)
    prefix = f"{context.mailbox.experiment}/{context.run.run}"
    return StoreCopies(open_store(place), prefix)


def check_folder(url: str, folder: Path) -> None:
    """Refuse a folder that is not there; its last part alone is made.

    A disk that is not mounted looks like a missing folder, and creating the whole path would fill
    the disk under it.
    """
    problem = None
    if folder.exists() and not folder.is_dir():
        problem = "is not a folder"
    elif not folder.parent.is_dir():
        problem = f"is not there, nor is {folder.parent}"
    elif not os.access(folder if folder.exists() else folder.parent, os.W_OK | os.X_OK):
        problem = "is not writable"
    if problem:
        raise UserError(
            f"store target {url!r}: {folder} {problem}",
            hint="create or mount it, or name another place under `store:`, then run the same "
            "command again; training and evaluation are kept",
        )


def copy(target: Target, files: Mapping[str, FileEntry], context: RunContext) -> JsonObject:
    """Copy files to a target; what is there with the right hash is skipped.

    Args:
        target: Where to.
        files: Name -> published object.
        context: Context of the store ticket.

    Returns:
        ``{"url", "files", "bytes", "written", "skipped"}``. ``manifest.json`` comes last: a copy
        without it is unfinished.

    Raises:
        InfrastructureError: The target does not keep what it is given.
    """
    written = 0
    scratch = context.scratch / "copy"
    scratch.mkdir(parents=True, exist_ok=True)
    local, check = scratch / "file", scratch / "check"
    for name, entry in files.items():
        context.stop.check()
        if target.has(name, entry, check):
            continue
        local = scratch / "out" / name
        fetch_file(context.mailbox, entry, local)
        _write_verified(target, name, entry, local, check)
        local.unlink()
        written += 1
    listing = json.dumps(
        {
            "experiment": context.mailbox.experiment,
            "run": context.run.run,
            "files": {n: {"sha256": e.sha256, "size": e.size} for n, e in files.items()},
        },
        indent=1,
        sort_keys=True,
    )
    local = scratch / "out" / "manifest.json"
    local.parent.mkdir(parents=True, exist_ok=True)
    local.write_text(listing)
    entry = FileEntry(key="", sha256=sha256_file(local), size=local.stat().st_size)
    if not target.has("manifest.json", entry, check):
        _write_verified(target, "manifest.json", entry, local, check)
    return {
        "url": target.shown,
        "files": len(files),
        "bytes": sum(e.size for e in files.values()),
        "written": written,
        "skipped": len(files) - written,
    }


def _write_verified(
    target: Target, name: str, entry: FileEntry, path: Path, scratch: Path
) -> None:
    for _ in range(_TRIES):
        try:
            target.write(name, path)
        except ControlPlaneError as error:
            raise InfrastructureError(
                f"store target {target.shown}: {error}", hint="is the server up? try again"
            ) from error
        if target.has(name, entry, scratch):
            return
    raise InfrastructureError(
        f"store target {target.shown} does not store files correctly: {name} reads back with "
        f"another sha256, {_TRIES} times",
        hint="check the disk or the network behind it",
    )
