"""A new MLflow database in a file begins with a copy of an empty one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from drillyard.tracking.new_database import begun


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """The folder of what this machine keeps."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "machine"))
    return tmp_path / "machine" / "tracking"


def make(database: Path, experiments: int = 1) -> bool:
    """What MLflow does with a database: tables if there are none, an experiment; True: tables."""
    with sqlite3.connect(database) as connection:
        there = connection.execute("SELECT name FROM sqlite_master").fetchall()
        if not there:
            connection.execute("CREATE TABLE experiments (name)")
            connection.execute("CREATE TABLE alembic_version AS SELECT 'head' AS version_num")
        for number in range(experiments):
            connection.execute("INSERT INTO experiments VALUES (?)", (f"{database}-{number}",))
    connection.close()
    return not there


def names(database: Path) -> list[tuple[str]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT name FROM experiments").fetchall()
    finally:
        connection.close()


def test_only_the_first_has_its_tables_made(tmp_path, machine):
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    with begun(first, "3"):
        assert make(first)
    with begun(second, "3"):
        assert not make(second)
    assert names(first) == [(f"{first}-0",)]
    assert names(second) == [(f"{second}-0",)]
    other = tmp_path / "other.db"
    with begun(other, "4"):
        assert make(other)
    assert sorted(p.name for p in machine.iterdir()) == ["mlflow-3.db", "mlflow-4.db"]
    assert sorted(p.name for p in tmp_path.glob("*.db")) == ["first.db", "other.db", "second.db"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_database_that_exists_is_left_alone(tmp_path, machine):
    own = tmp_path / "own.db"
    own.write_bytes(b"its owner knows")
    with begun(own, "3"), begun(None, "3"):
        pass
    assert own.read_bytes() == b"its owner knows"
    assert not machine.exists()


def test_one_that_another_program_used_meanwhile_is_not_kept(tmp_path, machine):
    with begun(tmp_path / "own.db", "3"):
        make(tmp_path / "own.db", experiments=2)
    assert list(machine.iterdir()) == []


def test_what_cannot_be_kept_or_copied_costs_time_only(tmp_path, machine):
    machine.parent.mkdir()
    machine.write_text("a file where the folder should be")
    for name in ("first.db", "second.db"):
        with begun(tmp_path / name, "3"):
            assert make(tmp_path / name)


@pytest.mark.parametrize("damage", ["cut", "emptied", "another file"])
def test_a_damaged_one_is_not_copied_and_is_replaced(tmp_path, machine, damage):
    """A power cut may leave it so; MLflow would refuse each new store of this machine."""
    with begun(tmp_path / "first.db", "3"):
        make(tmp_path / "first.db")
    kept = machine / "mlflow-3.db"
    whole = kept.read_bytes()
    kept.write_bytes({"cut": whole[:5000], "emptied": b"", "another file": b"x" * 9000}[damage])
    with begun(tmp_path / "second.db", "3"):
        assert make(tmp_path / "second.db")
    with begun(tmp_path / "third.db", "3"):
        assert not make(tmp_path / "third.db")


@pytest.mark.heavy
def test_a_copy_has_the_tables_that_mlflow_makes(tmp_path, monkeypatch):
    from mlflow.store.db import utils

    from drillyard.tracking.server import Server

    made = []
    real = utils._initialize_tables
    monkeypatch.setattr(utils, "_initialize_tables", lambda e: (made.append(e), real(e)))
    schemas = []
    for name in ("first", "second"):
        folder = tmp_path / name
        server = Server(f"sqlite:///{folder / 'mlflow.db'}", folder / "files")
        assert server.experiment("reactor") == "1"
        connection = sqlite3.connect(folder / "mlflow.db")
        own = (
            "SELECT * FROM alembic_version UNION SELECT sql FROM sqlite_master WHERE sql NOT NULL"
        )
        schemas.append(connection.execute(own).fetchall())
        connection.close()
    assert schemas[0] == schemas[1]
    assert len(made) == 1
