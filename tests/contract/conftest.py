"""Toy workloads on a local backend of their own."""

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
