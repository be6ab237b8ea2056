"""A store on this disk whose connection from the driver's process fails on demand.

``outage:///folder/store`` opens it. Its ``url`` is the plain folder, so that machines that are
rented through it reach the same objects on the disk themselves: the way from the driver to the
store is away and the machines go on, as with a laptop whose network is down. Files in ``folder``
say what fails:

    down                 every verb
    hangs                every verb waits for as long as the file is there
    down-after-renting   makes ``down`` as soon as the ledger has a rented lease
    back-to-cancel       whoever wants to write ``control/cancel.json`` finds the store back
    blip                 one listing of a run's attempts, for which only who follows curves asks;
                         it makes ``failed``

As a program: one call of ``drillyard.run`` or of the command on such a store, in its own process.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from drillyard.driver import driver
from drillyard.driver.watcher import Watcher
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import ObjectInfo
from drillyard.mailbox.file import FileStore
from drillyard.registry import names, register

if "outage" not in names("stores"):
    register("stores", "outage", "tests.helpers.outage_store:OutageStore")

impatient = functools.partial(Watcher, patience_s=1.0)
"""Stands for ``Watcher`` where a driver must soon give up a store that it cannot read."""


class OutageStore(FileStore):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(urlsplit(url).path)
        self._says = self.root.parent

    def _reach(self) -> None:
        while (self._says / "hangs").exists():
            time.sleep(0.05)
        if (self._says / "down").exists():
            self._fail()

    def _fail(self) -> None:
        raise StoreUnavailable(f"store {self.url}: no route to host", hint="is the network up?")

    def _write(self, key: str) -> None:
        if key.endswith("/control/cancel.json") and (self._says / "back-to-cancel").exists():
            (self._says / "down").unlink(missing_ok=True)
        self._reach()

    def get(self, key: str) -> bytes:
        self._reach()
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._write(key)
        super().put(key, data)
        if key.endswith("/rented.json") and (self._says / "down-after-renting").exists():
            (self._says / "down-after-renting").rename(self._says / "down")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._write(key)
        return super().put_if_absent(key, data)

    def stat(self, key: str) -> ObjectInfo | None:
        self._reach()
        return super().stat(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._reach()
        if "/attempts/" in prefix and (self._says / "blip").exists():
            (self._says / "blip").rename(self._says / "failed")
            self._fail()
        return super().list(prefix)

    def keys(self, prefix: str) -> Iterator[str]:
        self._reach()
        return super().keys(prefix)

    def folders(self, prefix: str = "") -> Iterator[str]:
        self._reach()
        return super().folders(prefix)

    def stamp(self, prefix: str) -> str | None:
        return None if (self._says / "down").exists() else super().stamp(prefix)

    def delete(self, key: str) -> None:
        self._write(key)
        super().delete(key)

    def upload(self, key: str, path: Path) -> None:
        self._write(key)
        super().upload(key, path)

    def download(self, key: str, path: Path) -> None:
        self._reach()
        super().download(key, path)


def program(way: str, file: str, store: str) -> int:
    """Run an experiment; the exit code of the command line."""
    if way == "signalled":
        from drillyard.driver import in_thread

        in_thread.AWAY_S, way = 3.0, "command"
    else:
        driver.Watcher = impatient  # type: ignore[assignment,attr-defined]
    if way == "command":
        from drillyard.cli.main import main

        return main(["run", file, "--store", store, "--offline-ok"])
    import drillyard
    from drillyard.cli.exit_codes import report

    try:
        drillyard.run(file, store=store, flow=False, report=False)
    except Exception as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(program(*sys.argv[1:]))
