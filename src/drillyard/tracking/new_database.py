"""New MLflow databases in a file: copies of an empty one that this machine keeps.

MLflow makes the tables of a new database by every migration that it ever had, which takes two
seconds of a processor (measured, 3.17.2). The result is the same each time, so the first one is
kept in ``~/.drillyard/tracking``, and later ones begin with a copy.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drillyard.system.files import replacing
from drillyard.system.home import local_home
from drillyard.system.operating_system import link


@contextmanager
def begun(database: Path | None, version: str) -> Iterator[None]:
    """Begins a database before the block, in which MLflow opens it; keeps the first that it makes.

    Call it under a lock of the database.

    Args:
        database: The file; None: nothing is done.
        version: MLflow's. Each has its own tables.
    """
    if database is None or database.exists():
        yield
        return
    empty = local_home() / "tracking" / f"mlflow-{version}.db"
    copied = _copy(empty, database)
    yield
    if not copied:
        with contextlib.suppress(OSError, sqlite3.Error):  # the next database takes longer
            _keep(database, empty)


def _copy(empty: Path, database: Path) -> bool:
    """Copies the empty database, unless there is none; returns whether it did."""
    part = database.with_name(f".{database.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(empty, part)
        if not _whole(part):
            return False
        link(part, database)  # never over a database that MLflow made meanwhile
        return True
    except (OSError, sqlite3.Error):  # also without hard links: MLflow makes the tables
        return False
    finally:
        part.unlink(missing_ok=True)


def _whole(copy: Path) -> bool:
    """Whether a copy is a database with tables: a power cut may have damaged what was kept."""
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    whole: bool = answer == "ok" and tables != (0,)
    return whole


def _keep(database: Path, empty: Path) -> None:
    """Keeps a database that MLflow just made, without its first experiment.

    MLflow makes that experiment again in each copy: it contains the time, and where its files go.
    """
    with (
        contextlib.suppress(_Used),
        replacing(empty) as part,
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(part, isolation_level=None)) as kept,
    ):
        source.backup(kept)
        if kept.execute("SELECT COUNT(*) FROM experiments").fetchone() != (1,):
            raise _Used
        kept.execute("DELETE FROM experiments")
        kept.execute("VACUUM")


class _Used(Exception):
    """Another program has used the database already."""
