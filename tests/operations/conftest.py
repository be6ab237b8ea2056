"""One set of servers for all tests of this folder; starting it takes half a minute."""

import pytest

from tests.helpers.yard import yard


@pytest.fixture(scope="session")
def team(tmp_path_factory):
    """Prefect, MLflow and a worker with everything deployed, and a receiver of alerts."""
    with yard(tmp_path_factory.mktemp("team")) as made:
        yield made
