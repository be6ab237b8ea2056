"""What a check says of the places that results go to: is there room, can they be written to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from drillyard.errors import UserError
from drillyard.findings import Finding, Severity
from drillyard.mailbox.temporary_files import links_refused
from drillyard.results.copies import check_folder
from drillyard.spec.load import Loaded

_FREE_PER_RUN = 64 * 1024 * 1024
"""Bytes: two checkpoints of a small network, its streams and results."""


def disk(store: str, runs: int = 1, *, claims: bool = True) -> Iterator[Finding]:
    """Whether a folder can be a store: free space, permissions, hard links.

    Args:
        store: Its URL; other than a folder: nothing is said.
        runs: Runs that will write there.
        claims: Workers will claim their work there, not only write results to it.
    """
    parts = urlsplit(store)
    if "://" in store and parts.scheme != "file":
        return
    path = Path(parts.path if "://" in store else store).expanduser().absolute()
    there = next(p for p in [path, *path.parents] if p.exists())
    if not there.is_dir():
        yield Finding(Severity.ERROR, "store", f"{there} is a file", "name a folder with --store")
        return
    free, needed = shutil.disk_usage(there).free, _FREE_PER_RUN * min(runs, 64)
    if free < needed:
        yield Finding(
            Severity.ERROR,
            "store",
            f"{free:,} bytes are free at {there}, and two checkpoints of each run need about "
            f"{needed:,} bytes",
            "make room, or name another place with --store",
        )
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            Severity.ERROR,
            "store",
            f"{there} cannot be written to",
            "change its permissions, or name another place with --store",
        )
    elif claims and (refusal := links_refused(there)) is not None:
        yield Finding(
            Severity.ERROR,
            "store",
            f"{there} is on a file system without hard links ({refusal}), and claims need them",
            "name a folder on another disk with --store: ext4, XFS, Btrfs, APFS, NTFS and NFS "
            "have them",
        )
    else:
        yield Finding(Severity.OK, "store", f"{store}: {free / 2**30:,.1f} GiB free")


def targets(loaded: Loaded) -> Iterator[Finding]:
    """Folders that results are copied to; nothing is said of good ones.

    Args:
        loaded: A resolved experiment.
    """
    for number, target in enumerate(loaded.spec.store):
        remote = "://" in target.url and not target.url.startswith("file://")
        if remote or target.url == "mlflow":
            continue
        subject = f"store[{number}].url"
        if "://" in target.url or Path(target.url).expanduser().is_absolute():
            # A relative one counts from the store's folder and is looked at by the store phase.
            folder = Path(urlsplit(target.url).path or target.url).expanduser()
            try:
                check_folder(target.url, folder)
            except UserError as error:
                yield Finding(Severity.ERROR, subject, error.message, error.hint)
                continue
        for finding in disk(target.url, claims=False):
            if finding.severity is Severity.ERROR:
                yield Finding(finding.severity, subject, finding.message, finding.fix)
