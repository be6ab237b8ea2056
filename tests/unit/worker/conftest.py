"""What tests of workers share."""

import pytest

from drillyard.mailbox.memory import MemoryStore
from tests.helpers.worker_world import World


@pytest.fixture
def world(request):
    """A mailbox in memory, on a clock of its own."""
    one = World(request.node.name)
    yield one
    MemoryStore.forget(one.url)
