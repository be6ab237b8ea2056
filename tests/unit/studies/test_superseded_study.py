"""Two drivers of one study: the superseded one writes nothing, the living one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Lease, Order
from drillyard.driver.driver import Driver
from drillyard.driver.launcher import Launcher
from drillyard.errors import StoreUnavailable, Superseded
from drillyard.leases.ledger import Ledger
from drillyard.leases.only_open import only_open
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.fenced import Fenced
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim
from drillyard.mailbox.status import Cause
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.submit import Trial, post_trials
from drillyard.spec.load import load
from tests.helpers.open_drivers import closing
from tests.helpers.records import failed
from tests.helpers.searches import begun, study_file
from tests.helpers.tiny_backend import ThreadBackend

URL = "memory://superseded"


class Marked(MemoryStore):
    """Remembers what was written; ``fail`` makes puts of some keys fail."""

    def __init__(self) -> None:
        super().__init__(URL)
        self.written: list[str] = []
        self.fail: Callable[[str], bool] = lambda key: False

    def put(self, key: str, data: bytes) -> None:
        self._note(key)
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._note(key)
        return super().put_if_absent(key, data)

    def _note(self, key: str) -> None:
        if self.fail(key):
            raise StoreUnavailable(f"503 for {key}")
        self.written.append(key)


@pytest.fixture
def store():
    yield Marked()
    MemoryStore.forget(URL)


@pytest.fixture
def mailbox(store):
    return Mailbox(store, "s")


def twelve(folder: Path, **study: Any) -> Path:
    """A study of twelve trials, two at a time, three more posted ahead at most."""
    trials = None if study.get("chooser") == "list" else 12
    chosen = {"chooser": "random", "trials": trials, "max_failures": 12, **study}
    return study_file(folder, chosen, mock={"metrics": ["score"]}, resources={"workers": 2})


def fail_one(mailbox: Mailbox, cause: Cause = Cause.USER_ERROR) -> None:
    """What a worker leaves of a trial that fails: the study has to judge it and to go on."""
    name = next(n for n, s in ticket_states(mailbox).items() if s.claimable is not None)
    mailbox.claim(Claim(ticket=name, attempt=1, worker="w", token="t", claimed_at=0.0))
    mailbox.end(failed(name, cause, message="bad"))


def taken_over(mailbox: Mailbox) -> None:
    newest = mailbox.driver()
    mailbox.create(
        f"driver/{newest.number + 1}.json",
        newest.model_copy(update={"number": newest.number + 1, "host": "other", "token": "o"}),
    )


@pytest.mark.parametrize("chooser", ["random", "tpe"])
def test_the_study_of_a_superseded_driver_writes_nothing(mailbox, store, tmp_path, chooser):
    lock = DriverLock(mailbox)
    lock.take([])
    search = begun(mailbox, twelve(tmp_path, chooser=chooser), lock.must_drive)
    fail_one(mailbox)
    taken_over(mailbox)
    store.written.clear()
    assert search.step(0.0) is None
    assert store.written == []
    assert isinstance(search.error, Superseded)
    search.close()


def test_a_driver_that_slept_in_the_middle_of_a_trial_posts_no_further_run(
    mailbox, store, tmp_path
):
    lock = DriverLock(mailbox)
    lock.take([])
    spec = load(twelve(tmp_path)).spec

    def asleep_at_its_first_write(key: str) -> bool:
        store.fail = lambda key: False
        taken_over(mailbox)
        return False

    store.fail = asleep_at_its_first_write
    with pytest.raises(Superseded):
        post_trials(spec, mailbox, [Trial(1, (1, 2, 3))], lock.must_drive)
    assert [record.run for record in mailbox.runs()] == ["t0001-s1"]
    assert {t.partition(".")[0] for t in mailbox.ticket_ids()} == {"t0001-s1"}


def test_it_prunes_nothing_either(mailbox, store, tmp_path):
    lock = DriverLock(mailbox)
    lock.take([])
    search = begun(mailbox, twelve(tmp_path), lock.must_drive)
    taken_over(mailbox)
    store.written.clear()
    with pytest.raises(Superseded):
        search.book.prune({1: "worse than the median of the trials"})
    assert store.written == []
    search.close()


@pytest.mark.heavy
def test_a_driver_fences_its_study(mailbox, store, tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    with closing(monkeypatch):
        driver = Driver(load(twelve(tmp_path)), mailbox, ThreadBackend())
        driver.open()
        driver.study._loop.stop()
        driver._heartbeat.stop()
        fail_one(mailbox)
        driver._watcher.look()
        taken_over(mailbox)
        store.written.clear()
        driver.study.step(0.0)
        with pytest.raises(Superseded):
            driver.stop("Ctrl-C in the terminal of the driver that was taken over")
        assert store.written == []
        assert isinstance(driver.study.error, Superseded)
        assert mailbox.cancelled() is None


@pytest.mark.parametrize("chooser", ["random", "tpe", "list"])
def test_a_number_that_is_taken_is_read_again(mailbox, tmp_path, chooser):
    """The superseded driver froze a trial after this one had read them."""
    listed = {"experiments": [{"mock": {"noise": n / 1000}} for n in range(1, 13)]}
    own = {"chooser": chooser, **(listed if chooser == "list" else {})}
    search = begun(mailbox, twelve(tmp_path, **own))
    chosen = mailbox.trials()[0]
    number = len(chosen) + 1
    theirs: dict[str, Any] = {"assignment": {"level": 0.125}}
    if chooser == "list":
        mock = chosen[-1].parts["mock"]
        assert isinstance(mock, dict)
        theirs = {"parts": {**chosen[-1].parts, "mock": {**mock, "noise": number / 1000}}}
    late = chosen[-1].model_copy(update={"number": number, **theirs})  # with its memory's number
    assert mailbox.choose(late)
    for _ in range(12):
        fail_one(mailbox)
        for _ in range(3):
            search.step(0.0)
    assert search.error is None
    assert search.over
    frozen, outcomes, _ = mailbox.trials()
    assert [r.number for r in frozen] == list(range(1, 13))
    assert frozen[number - 1] == late
    assert len(outcomes) == 12
    assert len({json.dumps([r.assignment, r.parts], sort_keys=True) for r in frozen}) == 12
    search.close()


def test_a_trial_that_could_not_be_posted_is_posted_later(mailbox, store, tmp_path):
    search = begun(mailbox, twelve(tmp_path))
    before = len(mailbox.trials()[0])
    fail_one(mailbox)
    store.fail = lambda key: "/queue/" in key
    search.step(0.0)
    assert len(mailbox.trials()[0]) == before + 1
    store.fail = lambda key: False
    for _ in range(3):
        search.step(1.0)
    assert search.error is None
    records = mailbox.trials()[0]
    assert {t.partition("-")[0] for t in mailbox.ticket_ids()} == {
        f"t{r.number:04d}" for r in records
    }
    search.close()


@pytest.mark.heavy
def test_a_driver_that_slept_while_it_opened_overwrites_nothing(
    mailbox, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    with closing(monkeypatch):
        driver = Driver(load(twelve(tmp_path)), mailbox, ThreadBackend())
        monkeypatch.setattr(driver._closer, "close_lost", lambda states: taken_over(mailbox))
        with pytest.raises(Superseded):
            driver.open()
    folders = {key.split("/")[1] for key in store.written}
    assert folders == {"driver", "timings"}


def test_a_superseded_driver_pushes_no_ticket(mailbox, tmp_path, monkeypatch):
    lock = DriverLock(mailbox)
    lock.take([])
    begun(mailbox, twelve(tmp_path), lock.must_drive).close()
    pushed: list[str] = []
    backend = ThreadBackend()
    monkeypatch.setattr(backend, "launch", lambda lease, ticket: pushed.append(ticket))
    ledger = Ledger(Fenced(mailbox, lock.must_drive))
    launcher = Launcher(mailbox, backend, lambda lease: only_open(ledger, backend, lease))
    order = Order(lease_id="dy-0123456789", experiment="s", workers=2, store_url=URL)
    lease = Lease(lease_id=order.lease_id, backend="thread", order=order, created_at=0.0)
    states = list(ticket_states(mailbox).values())
    launcher.launch(lease, [next(s for s in states if s.claimable is not None)])
    assert len(pushed) == 1
    taken_over(mailbox)
    with pytest.raises(Superseded):
        launcher.launch(lease, states)
    assert len(pushed) == 1
