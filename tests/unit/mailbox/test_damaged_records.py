"""Records that cannot be read: the error has their address, and a worker's stops nothing."""

import pytest

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import WorkerRecord

CUT = b'{"worker": '


@pytest.fixture
def mailbox():
    return Mailbox(MemoryStore("memory://damaged"), "e")


def test_a_damaged_record_of_a_worker_hides_no_other(mailbox, caplog):
    """It was of a dead one: one that lives writes its record again within seconds."""
    mailbox.store.put("e/workers/dead.json", CUT)
    alive = WorkerRecord(worker="w1", lease="dy-0123456789", state="ready", written_at=0.0)
    mailbox.write("workers/w1.json", alive)
    assert mailbox.workers() == [alive]
    assert mailbox.workers() == [alive]
    said = [record.getMessage() for record in caplog.records if "dead.json" in record.getMessage()]
    assert len(said) <= 1 and all("is ignored" in text for text in said)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("driver/1.json", lambda m: m.drivers()),
        ("queue/t0001-s1.train.json", lambda m: m.tickets()),
        ("runs/t0001-s1/run.json", lambda m: list(m.runs())),
        ("trials/t0001.json", lambda m: m.trials()),
        ("experiment.json", lambda m: m.experiment_record()),
    ],
)
def test_the_error_has_the_address_of_what_is_damaged(mailbox, path, read):
    mailbox.store.put(f"e/{path}", CUT)
    with pytest.raises(CorruptObject, match=f"^memory://damaged/e/{path}: ") as error:
        read(mailbox)
    assert error.value.hint is not None
