"""Whether anybody drives is asked every few seconds: of the newest driver alone."""

from collections import Counter

import pytest

from drillyard.errors import AlreadyDriven
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock, driven
from drillyard.mailbox.memory import MemoryStore
from drillyard.testing.clock import FakeClock

URL = "memory://newest-driver"
MANY = 30


class Counting(MemoryStore):
    """Counts reads of single objects, by key."""

    def __init__(self, clock):
        super().__init__(URL, clock)
        self.reads = Counter()

    def get(self, key):
        self.reads[key] += 1
        return super().get(key)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mailbox(clock):
    yield Mailbox(Counting(clock), "x")
    MemoryStore.forget(URL)


def test_before_anybody_drove(mailbox):
    assert mailbox.driver() is None
    assert not driven(mailbox)
    assert DriverLock(mailbox).check_free() == 0


def test_one_record_is_read_however_many_drivers_there_were(mailbox, clock):
    for _ in range(MANY):
        lock = DriverLock(mailbox, clock)
        lock.take(["test"])
        lock.release("done")
    assert not driven(mailbox)
    lock = DriverLock(mailbox, clock)
    lock.take(["test"])
    mailbox.store.reads.clear()
    assert driven(mailbox)
    assert mailbox.driver().number == MANY + 1
    with pytest.raises(AlreadyDriven):
        DriverLock(mailbox, clock).check_free()
    assert mailbox.store.reads == {f"x/driver/{MANY + 1}.json": 3}
