"""For commands of the documents: one Prefect server, as while a user's other command runs."""

import pytest

from drillyard_flows import server as embedded


@pytest.fixture(scope="module")
def server(prefect_home):
    """Our own, alive as long as this process is signed in: starting it takes five seconds."""
    held = embedded.acquire()
    held.wait()
    yield
    held.release()
