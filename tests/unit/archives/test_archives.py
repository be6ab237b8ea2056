"""``delete``, ``archive`` and ``restore``: what they refuse, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from drillyard.archives import contents, delete, open_for_deletion, restore, write_archive
from drillyard.archives.activity import activity
from drillyard.backend import Cost, Order
from drillyard.cli.main import main
from drillyard.errors import CorruptObject, NotFound, StoreUnavailable, UserError
from drillyard.leases.ledger import Intent, Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DELETING, DriverLock
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import WorkerRecord
from drillyard.runs.locate import experiments
from drillyard.system.clock import SYSTEM
from tests.helpers.fixtures_store import T0, write_experiment


class Unplugged(MemoryStore):
    """A store that is lost after so many changes."""

    changes = 10**9

    def _count(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise StoreUnavailable("the store is away")

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def upload(self, key: str, path: Path) -> None:
        self._count()
        super().upload(key, path)


def copied(source: Mailbox, store: MemoryStore) -> Mailbox:
    for info in source.store.list(source.key("")):
        store.put(info.key, source.store.get(info.key))
    return Mailbox(store, source.experiment)


def everything(mailbox: Mailbox) -> dict[str, bytes]:
    return {i.key: mailbox.store.get(i.key) for i in mailbox.store.list(mailbox.key(""))}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("source"), "a", seeds=(1,))


@pytest.fixture
def box(source):
    return copied(source, Unplugged("memory://unplugged"))


# -- what is refused ------------------------------------------------------------------------------


def test_an_experiment_that_has_ended_is_idle(box):
    assert activity(box) == []


def test_a_driver_that_lives_is_not_deleted_under(box):
    lock = DriverLock(box)
    lock.take(["drillyard", "run"])
    before = everything(box)
    with pytest.raises(UserError, match="its driver is running") as error:
        delete(box)
    assert "drillyard cancel a" in (error.value.hint or "")
    assert everything(box) == before
    lock.release("done")
    delete(box)
    assert everything(box) == {}


def test_a_machine_counts_as_alive_until_its_provider_has_confirmed_the_end(box):
    ledger = Ledger(box)
    order = Order(lease_id="dy-aaaaaaaaaa", experiment="a", store_url=box.store.url)
    ledger.intend(order, "gcp", 2, Cost())
    ledger_says = "machine dy-aaaaaaaaaa on gcp may be alive"
    assert ledger_says in activity(box)
    ledger.gone("dy-aaaaaaaaaa", "written off", confirmed=False)
    assert ledger_says in activity(box)
    with pytest.raises(UserError, match="may be alive"):
        delete(box)
    ledger.confirm("dy-aaaaaaaaaa")
    assert activity(box) == []


def test_what_cannot_be_read_counts_as_alive(box):
    key = next(i.key for i in box.store.list(box.key("leases/")) if i.key.endswith("intent.json"))
    box.store.put(key, b"{")
    with pytest.raises(UserError, match="not known whether it is alive"):
        delete(box)
    box.store.delete(key)
    with pytest.raises(UserError, match="has no readable order"):
        delete(box)


def test_a_machine_that_only_this_computer_knows_of(box, tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    order = Order(lease_id="dy-bbbbbbbbbb", experiment="a", store_url=box.store.url)
    intent = Intent(order=order, backend="gcp", ordinal=3, written_at=T0)
    (tmp_path / "intents").mkdir()
    (tmp_path / "intents" / "dy-bbbbbbbbbb.json").write_bytes(intent.to_bytes())
    assert activity(box) == ["machine dy-bbbbbbbbbb on gcp may be alive"]


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({"pid": os.getpid(), "pid_started": 0.0}, True),  # heard of a moment ago, elsewhere
        ({"state": "leaving"}, True),
        ({"lease": "dy-of-nobody"}, True),
    ],
)
def test_a_worker_that_was_heard_of(box, changes, alive):
    values = {"worker": "w9", "lease": "dy-0123456789", "state": "ready", "host": "far"}
    record = WorkerRecord.model_validate({**values, "written_at": SYSTEM.now(), **changes})
    box.write("workers/w9.json", record)
    assert ("worker w9 may be alive" in activity(box)) is alive


def test_a_run_that_was_heard_of(tmp_path):
    running = write_experiment(tmp_path, "half", seeds=(1, 2), finished=1)
    assert any(reason.startswith("run t0001-s2") for reason in activity(running))


# -- deleting -------------------------------------------------------------------------------------


def test_a_neighbour_with_a_longer_name_stays(tmp_path):
    box = write_experiment(tmp_path, "a", seeds=(1,))
    other = write_experiment(tmp_path, "a-2", seeds=(1,))
    kept = everything(other)
    delete(box)
    assert experiments(FileStore(str(tmp_path))) == ["a-2"]
    assert not (tmp_path / "a").exists()
    assert everything(other) == kept


def test_a_file_of_the_user_in_the_folder_stays(tmp_path):
    box = write_experiment(tmp_path, "a", seeds=(1,))
    (tmp_path / "a" / ".notes").write_text("mine")
    delete(box)
    assert [p.name for p in (tmp_path / "a").rglob("*")] == [".notes"]


def test_an_interrupted_deletion_is_finished_by_the_same_call(source):
    total = len(everything(source))
    for after in range(0, total + 2, 3):
        store = Unplugged(f"memory://interrupted-{after}")
        box = copied(source, store)
        store.changes = after
        with pytest.raises(StoreUnavailable):
            delete(box)
        # Until it is finished, nobody can run the experiment as if it were whole.
        store.changes = 10**9
        assert everything(box)
        assert store.stat(box.key(DELETING)) is not None
        with pytest.raises(UserError, match="is being deleted"):
            DriverLock(box).take(["drillyard", "run"])
        delete(box)
        assert everything(box) == {}


def test_an_interrupted_deletion_is_found_by_its_name(source, tmp_path):
    box = write_experiment(tmp_path, "a", seeds=(1,))
    box.store.put(box.key(DELETING), b"{}")
    box.store.delete(box.key("experiment.json"))
    again = open_for_deletion("a", str(tmp_path))
    delete(again)
    assert not (tmp_path / "a").exists()
    with pytest.raises(NotFound):
        open_for_deletion("a", str(tmp_path))


def test_the_command_shows_what_would_go_and_asks(capsys, tmp_path):
    box = write_experiment(tmp_path, "a", seeds=(1,))
    before = everything(box)
    assert main(["delete", "a", "--store", str(tmp_path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "runs: policies, checkpoints, metrics, logs" in shown
    assert f"{len(before):,}" in shown
    assert main(["delete", "a", "--store", str(tmp_path)]) == 2  # no terminal to ask on
    assert "add --yes" in capsys.readouterr().err
    assert everything(box) == before
    assert main(["delete", "a", "--store", str(tmp_path), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] is True
    assert everything(box) == {}
    assert main(["delete", "a", "--store", str(tmp_path), "--yes"]) == 2


# -- archiving ------------------------------------------------------------------------------------


def test_an_archive_is_read_back_byte_for_byte(source, tmp_path):
    file = tmp_path / "a.drillyard"
    before = everything(source)
    write_archive(source, file)
    assert everything(source) == before
    restore(file, str(tmp_path / "other"))
    assert everything(Mailbox(FileStore(str(tmp_path / "other")), "a")) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.drillyard", "other"]


def test_an_archive_is_not_written_over_a_file_or_of_what_is_alive(box, tmp_path):
    file = tmp_path / "a.drillyard"
    file.write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        write_archive(box, file)
    assert file.read_text() == "mine"
    DriverLock(box).take(["drillyard", "run"])
    with pytest.raises(UserError, match="cannot archive"):
        write_archive(box, tmp_path / "b.drillyard")
    assert not (tmp_path / "b.drillyard").exists()


def test_an_experiment_that_changes_meanwhile_is_not_archived(source, tmp_path):
    class Changing(MemoryStore):
        def download(self, key: str, path: Path) -> None:
            super().download(key, path)
            self.put("a/late.json", b"{}")

    box = copied(source, Changing("memory://changing"))
    with pytest.raises(UserError, match="changed while it was read"):
        write_archive(box, tmp_path / "a.drillyard")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_restores_nothing(source, tmp_path):
    file = tmp_path / "a.drillyard"
    write_archive(source, file)
    with zipfile.ZipFile(file) as whole:
        members = {i.filename: whole.read(i) for i in whole.infolist()}
    victim = next(name for name in members if name.endswith("manifest.json"))
    members[victim] = members[victim][:-1] + b" "
    bad = tmp_path / "bad.drillyard"
    with zipfile.ZipFile(bad, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    with pytest.raises(CorruptObject, match="is not what was archived"):
        restore(bad, str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match="not an archive"):
        restore(tmp_path / "cut", str(tmp_path / "other"))


@pytest.mark.parametrize("name", ["../../escape", "/etc/x", "runs/../../x", ".hidden"])
def test_an_archive_cannot_write_outside_its_experiment(source, tmp_path, name):
    file = tmp_path / "evil.drillyard"
    record = {
        "experiment": "a",
        "store_url": "x",
        "identity": "x",
        "written_at": 0.0,
        "objects": {
            "experiment.json": {"size": 1, "sha256": "0"},
            name: {"size": 1, "sha256": "0"},
        },
    }
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive.json", json.dumps(record))
    with pytest.raises(UserError, match="illegal object key"):
        restore(file, str(tmp_path / "other"))
    record["objects"] = {"experiment.json": {"size": 1, "sha256": "0"}}
    record["experiment"] = name
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive.json", json.dumps(record))
    with pytest.raises(UserError):
        restore(file, str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_an_interrupted_restoring_is_no_experiment_and_is_finished(source, tmp_path, monkeypatch):
    file = tmp_path / "a.drillyard"
    write_archive(source, file)
    target = Unplugged("memory://target")
    monkeypatch.setattr("drillyard.archives.archive.open_store", lambda url: target)
    target.changes = 5
    with pytest.raises(StoreUnavailable):
        restore(file, "memory://target")
    assert experiments(target) == []
    target.changes = 10**9
    restore(file, "memory://target")
    assert everything(Mailbox(target, "a")) == everything(source)
    with pytest.raises(UserError, match="already has an experiment"):
        restore(file, "memory://target")


def test_the_commands_archive_delete_and_restore(capsys, tmp_path):
    box = write_experiment(tmp_path / "store", "a", seeds=(1,))
    before = everything(box)
    file, store = str(tmp_path / "a.drillyard"), str(tmp_path / "store")
    words = ["archive", "a", "--store", store, "--out", file]
    assert main([*words, "--dry-run"]) == 0
    assert not Path(file).exists()
    assert main([*words, "--delete", "--yes"]) == 0
    assert "deleted" in capsys.readouterr().out
    assert everything(box) == {}
    assert main(["restore", file, "--store", store]) == 0
    assert everything(box) == before
    assert contents(box).size == sum(map(len, before.values()))
