"""Toy workloads on a local backend, and processes that a test may kill."""

import multiprocessing

import pytest

from drillyard_backends.local import LocalBackend
from tests.helpers.toy import Toys


@pytest.fixture
def toys(tmp_path):
    made = []

    def make(**spec):
        made.append(Toys(tmp_path, **spec))
        return made[-1]

    yield make
    for one in made:
        one.clean_up()


@pytest.fixture
def backend(tmp_path):
    return LocalBackend(runtime=tmp_path / "runtime", stop_grace_s=5.0)


@pytest.fixture(scope="module")
def processes():
    """A server that has imported the trainer, and forks a process for each training."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(
        ["stable_baselines3", "drillyard.learners.sb3", "tests.helpers.resume_runner"]
    )
    return forkserver
