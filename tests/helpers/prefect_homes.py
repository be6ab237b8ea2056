"""Homes of Prefect whose database has its tables already: making them takes ten seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.helpers.patience import PATIENCE_S


def begin(home: Path) -> None:
    """Start our own server in a home, so that its database is made."""
    start = "from drillyard_flows import server; s = server.acquire(); s.wait(); s.release()"
    subprocess.run(
        [sys.executable, "-c", start],
        env={**os.environ, "PREFECT_HOME": str(home)},
        timeout=PATIENCE_S,
        check=True,
    )


def copied(like: Path, home: Path) -> Path:
    """A new home with the database of another one, whose server may be running."""
    home.mkdir(mode=0o700, parents=True)
    with (
        contextlib.closing(sqlite3.connect(like / "prefect.db")) as source,
        contextlib.closing(sqlite3.connect(home / "prefect.db")) as target,
    ):
        source.backup(target)
    # Its word that the block types are registered in there.
    shutil.copy(like / "memo_store.toml", home)
    return home
