"""The database of a study's memory: its address, a check that it answers, its errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from drillyard.errors import InfrastructureError, UserError
from drillyard.system.optional_packages import install

EngineSettings: TypeAlias = dict[str, bool | dict[str, int]]


def driver_url(url: str) -> str:
    """A URL for SQLAlchemy, with psycopg as the driver of ``postgresql://``."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def engine_settings(url: str) -> EngineSettings:
    """Arguments of SQLAlchemy's ``create_engine``."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30}}
    # A connection that the server closed in the meantime is opened again.
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def check_storage(url: str) -> None:
    """Check that a database answers; creates nothing.

    Raises:
        UserError: Its driver is not installed.
        InfrastructureError: It does not answer.
    """
    if url.startswith("sqlite"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        if not folder.is_dir():
            raise UserError(f"study.storage: there is no folder {folder}", hint="create it first")
        return
    try:
        from sqlalchemy import create_engine

        engine = create_engine(driver_url(url), **engine_settings(url))
        with engine.connect():
            pass
        engine.dispose()
    except Exception as error:
        raise foreign(error, url) from error


def foreign(error: Exception, url: str | None) -> Exception:
    """Converts an exception of Optuna, SQLAlchemy or a driver to one of drillyard's errors."""
    from drillyard.errors import DrillyardError
    from drillyard.system.redaction import redact

    if isinstance(error, DrillyardError):
        return error
    if isinstance(error, ImportError):
        package = "psycopg[binary]" if "psycopg" in str(error) else str(error.name)
        return UserError(f"study.storage needs {package}", hint=install("postgres"))
    reason = redact(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
    where = f" ({redact(url)})" if url else ""
    return InfrastructureError(
        f"the memory of the study cannot be used{where}: {reason}",
        hint="start the database, or correct study.storage; then run the same command again",
    )


_THEIRS = ("sqlalchemy", "psycopg", "sqlite3", "optuna", "alembic")


@contextmanager
def translated() -> Iterator[None]:
    """Converts the exceptions of other packages; errors of drillyard pass unchanged."""
    try:
        yield
    except Exception as error:
        theirs = type(error).__module__.partition(".")[0] in _THEIRS
        if theirs or isinstance(error, ImportError):
            raise foreign(error, None) from error
        raise
