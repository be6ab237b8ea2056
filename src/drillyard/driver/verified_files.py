"""Which stored files were found correct, remembered on this machine between two commands."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import verify_file
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted
from drillyard.system.home import local_home

Known = dict[str, tuple[int, float]]
"""Key of a file -> its size, and the time at which it was written, by the store's clock."""
log = logging.getLogger(__name__)


class VerifiedFiles:
    """Reads the files of results, and compares their hashes.

    A file that was found correct is read again only when its size or time in the store has
    changed. The record is a local file with a line for each result. It may be deleted: then all
    files are read once more.

    Args:
        mailbox: The experiment.
        home: The local folder; default ``DRILLYARD_HOME`` or ``~/.drillyard``.
    """

    def __init__(self, mailbox: Mailbox, home: Path | None = None) -> None:
        self._mailbox = mailbox
        place = sha256_hex(f"{mailbox.store.url}\n{mailbox.experiment}".encode())[:32]
        self._path = (home or local_home()) / "verified" / f"{place}.jsonl"
        self._known: dict[str, Known] | None = None

    def verify(self, accepted: Accepted) -> None:
        """Verify every file of an accepted result.

        Raises:
            CorruptObject: Something is missing or was changed; the message names it.
        """
        manifest = self._mailbox.manifest(accepted)
        if self._known is None:
            self._known = self._read()
        before = self._known.get(accepted.manifest_sha256, {})
        now: Known = {}
        for name, entry in sorted(manifest.files.items()):
            # Looked at before it is read, so that a change in between is seen the next time.
            there = self._mailbox.store.stat(self._mailbox.key(entry.key))
            seen = None if there is None else (there.size, there.updated_at)
            if seen is None or before.get(entry.key) != seen:
                try:
                    verify_file(self._mailbox, entry)
                except CorruptObject as error:
                    raise CorruptObject(f"{name} of {accepted.run}: {error}") from None
            if seen is not None:
                now[entry.key] = seen
        if now != before:
            self._known[accepted.manifest_sha256] = now
            self._append(accepted.manifest_sha256, now)

    def _append(self, manifest: str, now: Known) -> None:
        line = json.dumps({"manifest": manifest, "files": now}) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab", buffering=0) as file:
                file.write(line.encode())  # in one call: several threads write
        except OSError as error:
            log.info("%d verified files are not remembered: %s", len(now), error)

    def _read(self) -> dict[str, Known]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        known_files: dict[str, Known] = {}
        for line in lines:
            try:  # a torn line, or one of another version, is as good as none
                record = json.loads(line)
                known_files[record["manifest"]] = {
                    key: (int(size), float(at)) for key, (size, at) in record["files"].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return known_files
