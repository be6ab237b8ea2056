"""For commands of the documents: one Prefect server, as while a user's other command runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drillyard_flows import server as embedded


@pytest.fixture(scope="module")
def server(prefect_home: Path) -> Iterator[None]:
    """Our own, alive as long as this process is signed in: starting it takes five seconds."""
    held = embedded.acquire()
    held.wait()
    yield
    held.release()
