"""Checks of the folders for results: free space and permissions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from drillyard.errors import UserError
from drillyard.findings import Finding, Severity, passed, problem
from drillyard.mailbox.temporary_files import links_refused
from drillyard.results.copies import check_folder
from drillyard.runs.identity import needs_code
from drillyard.runs.travelling import findings, packed
from drillyard.spec.load import Loaded

_FREE_PER_RUN = 64 * 1024 * 1024
"""Bytes for two checkpoints of a small network, its streams and results."""


def disk(store: str, runs: int = 1, *, claims: bool = True) -> Iterator[Finding]:
    """Checks whether a folder can be a store: free space, permissions, hard links.

    Args:
        store: The store's URL; only a folder is checked.
        runs: Number of runs that will write to it.
        claims: Whether workers will also claim tickets in it.
    """
    parts = urlsplit(store)
    if "://" in store and parts.scheme != "file":
        return
    path = Path(parts.path if "://" in store else store).expanduser().absolute()
    existing = next(p for p in [path, *path.parents] if p.exists())
    if not existing.is_dir():
        yield problem("store", f"{existing} is a file", "choose a folder with --store")
        return
    free, needed = shutil.disk_usage(existing).free, _FREE_PER_RUN * min(runs, 64)
    if free < needed:
        yield problem(
            "store",
            f"{free / 1e6:,.1f} MB are free at {existing}, but two checkpoints of each run need "
            f"about {needed / 1e6:,.1f} MB",
            "free some space, or choose another folder with --store",
        )
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield problem(
            "store",
            f"{existing} cannot be written to",
            "change its permissions, or choose another folder with --store",
        )
    elif claims and (refusal := links_refused(existing)) is not None:
        yield problem(
            "store",
            f"{existing} is on a file system without hard links ({refusal}), which claims need",
            "choose a folder on another disk with --store; ext4, XFS, Btrfs, APFS, NTFS and NFS "
            "have hard links",
        )
    else:
        yield passed("store", f"{store}: {free / 2**30:,.1f} GiB free")


def targets(loaded: Loaded) -> Iterator[Finding]:
    """Checks the folders that results are copied to; a usable folder gives no finding.

    Args:
        loaded: A resolved experiment.
    """
    for number, target in enumerate(loaded.spec.store):
        remote = "://" in target.url and not target.url.startswith("file://")
        if remote or target.url == "mlflow":
            continue
        subject = f"store[{number}].url"
        if "://" in target.url or Path(target.url).expanduser().is_absolute():
            # A relative folder is relative to the store's folder; the store phase checks it.
            folder = Path(urlsplit(target.url).path or target.url).expanduser()
            try:
                check_folder(target.url, folder)
            except UserError as error:
                yield problem(subject, error.message, error.hint)
                continue
        for finding in disk(target.url, claims=False):
            if finding.severity is Severity.ERROR:
                yield Finding(finding.severity, subject, finding.message, finding.fix)


def travels(loaded: Loaded, store: str) -> list[Finding]:
    """Returns what travels and what stays; the other workloads say it themselves.

    Args:
        loaded: The experiment.
        store: URL of the mailbox's store, which stays if it is in the folder.

    Raises:
        UserError: The folder cannot be sent: too large, a link, or a file that may not be read.
    """
    if loaded.spec.workload != "rl" or not needs_code(loaded.spec):
        return []
    bundle = packed(loaded, [] if "://" in store else [Path(store)])
    return findings(bundle, loaded.folder)
