"""The audit log: a line before and after each deletion, on disk when the call returns."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from pathlib import Path

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import StoreUnavailable
from drillyard.mailbox.driver_lock import host
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.home import local_home


class Audit:
    """``~/.drillyard/audit.jsonl`` (folder: DRILLYARD_HOME).

    Args:
        path: Another file.
        clock: For the times.
    """

    def __init__(self, path: Path | None = None, clock: Clock = SYSTEM) -> None:
        self.path = path or local_home() / "audit.jsonl"
        self._clock = clock

    def write(self, action: str, lease: str, **more: Json) -> None:
        """Append a line.

        Args:
            action: ``deleting``, ``deleted``, ``failed``, ``protected`` …
            lease: Its id.
            more: More fields of the line.

        Raises:
            StoreUnavailable: It cannot be written, so nothing may be deleted.
        """
        line = {
            "at": self._clock.now(),
            "action": action,
            "lease": lease,
            "by": _user(),
            "host": host(),
            **more,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, (json.dumps(line) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(
                f"the audit log {self.path} cannot be written: {error.strerror or error}",
                hint="DRILLYARD_HOME moves it",
            ) from error

    def lines(self) -> Iterator[JsonObject]:
        """Every line; incomplete ones are left out."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def failures(self, lease: str) -> int:
        """How often deleting a lease failed since it last succeeded."""
        count = 0
        for line in self.lines():
            if line.get("lease") == lease:
                count = (
                    count + 1
                    if line.get("action") == "failed"
                    else (0 if line.get("action") == "deleted" else count)
                )
        return count


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
