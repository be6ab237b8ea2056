"""A store, a mailbox in it, an empty database, a live server."""

import shutil

import pytest

from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import (
    LiveServer,
    client,
)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A migrated database: two seconds that the tests share."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client(f"sqlite:///{path}").get_experiment("0")
    return path


@pytest.fixture
def store(tmp_path, empty_database):
    """A store's folder with an empty tracking database."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def box(store):
    """An experiment of one seed that nobody has begun."""
    made = write_experiment(store, seeds=(1,), finished=0, failed=-1)
    for info in list(made.store.list(made.key("driver/"))):
        made.store.delete(info.key)
    return made


@pytest.fixture(scope="module")
def live(tmp_path_factory, empty_database):
    server = LiveServer(tmp_path_factory.mktemp("mlflow") / "server")
    shutil.copy(empty_database, server.folder / "server.db")
    server.start()
    yield server
    server.kill()
