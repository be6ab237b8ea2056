"""One set of servers for all tests of this folder; starting it takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.yard import Yard, yard


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Prefect, MLflow and a worker with everything deployed, and a receiver of alerts."""
    with yard(tmp_path_factory.mktemp("team")) as made:
        yield made
