"""W&B and CSV: whole curves, once, also after resumes and kills; nobody waits for a dead one.

W&B is its real client, in offline mode: what it would send is read from its own files.
"""

from __future__ import annotations

import csv
import functools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import read_stream
from drillyard.registry import load
from drillyard.runs import checkpoints
from drillyard.tracking import Mirror, Mirrors, behind, wandb_tracker
from drillyard.tracking.background import synchronised
from drillyard.tracking.csv_tracker import CsvWriter
from drillyard.tracking.points import STREAMS, numbers
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import Target, Tracker
from tests.helpers.command_line import called
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import RUN, Training
from tests.helpers.patience import until

pytestmark = pytest.mark.heavy

Points = list[tuple[str, int, float]]

# It takes seconds to import, in each process that collects this file.
WANDB = find_spec("wandb") is not None
needs_wandb = pytest.mark.skipif(not WANDB, reason="pip install 'drillyard[wandb]'")
both = pytest.mark.parametrize("tracker", ["csv", pytest.param("wandb", marks=needs_wandb)])


@pytest.fixture
def box(tmp_path, monkeypatch):
    """An experiment of one seed that has not begun, and W&B without a network."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    made = write_experiment(tmp_path / "store", seeds=(1,), finished=0, failed=-1)
    for info in list(made.store.list(made.key("driver/"))):
        made.store.delete(info.key)
    return made


def address(tracker: str) -> str:
    return {"csv": "curves", "wandb": "team/reactor"}[tracker]


def made(tracker: str, box: Mailbox) -> Tracker:
    found: Tracker = load("trackers", tracker)(box, address(tracker))
    return found


def sent(tracker: Tracker) -> SyncReport:
    report = tracker.sync()
    assert report.complete, report
    return report


def wanted(box: Mailbox, run: str = RUN) -> Points:
    """Every point of the merged streams."""
    return sorted(
        (name, int(line["step"]), value)
        for stream in STREAMS
        for line in read_stream(box, run, stream)
        for name, value in numbers(line["metrics"])
    )


def there(tracker: str, folder: Path, run: str = RUN) -> Points:
    """Every point that the place has; fails when a run is there twice."""
    if tracker == "csv":
        with open(folder / "curves" / "cstr-ppo" / f"{run}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return sorted((r["metric"], int(r["step"]), float(r["value"])) for r in rows)
    found = []
    for record in offline_records(folder, run):
        if record.WhichOneof("record_type") == "history":
            row = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in record.history.item
            }
            step = row.pop("environment_steps")
            found += [(k, step, v) for k, v in row.items() if not k.startswith("_")]
    return sorted(found)


def offline_records(folder: Path, run: str = RUN) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    (file,) = (folder / "wandb").glob(f"offline-run-*/*-{run}.wandb")
    log = DataStore()
    log.open_for_scan(str(file))
    try:
        while (data := log.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record
    finally:
        log.close()


@both
def test_a_resumed_run_is_there_once(box, tmp_path, tracker):
    one = Training(box, tmp_path)
    offsets = one.steps(1, 20)
    checkpoints.save(box, RUN, 1, 2000, 1, {}, offsets, time.time())
    one.steps(21, 30)  # beyond the checkpoint, sent, and made again by the next attempt
    mine = made(tracker, box)
    sent(mine)
    one.steps(31, 33)
    assert sent(mine).points == 3 * 2, "what is new alone"
    one.end(Status.FAILED, Cause.PREEMPTION)
    two = Training(box, tmp_path, 2, offsets=offsets, resumed_attempt=1, resumed_step=2000)
    two.steps(21, 40)
    sent(mine)
    two.steps(41, 43)
    two.end(Status.FAILED, Cause.USER_ERROR, "why: token=abcdefghijk")
    sent(mine)
    mine.close()
    assert there(tracker, tmp_path) == wanted(box)
    again = made(tracker, box)
    assert (sent(again).points, there(tracker, tmp_path)) == (0, wanted(box))
    assert not behind.lacking(box, Target(tracker, address(tracker)))


@both
def test_no_secret_is_sent_and_nothing_about_this_machine(box, tmp_path, tracker):
    spec = {**box.experiment_record().spec, "api_token": "hunter2hunter2"}
    box.write("experiment.json", box.experiment_record().model_copy(update={"spec": spec}))
    training = Training(box, tmp_path)
    training.steps(1, 3)
    training.end(Status.FAILED, Cause.USER_ERROR, "why: token=abcdefghijk")
    mine = made(tracker, box)
    sent(mine)
    mine.close()
    folder = tmp_path / {"csv": "curves", "wandb": "wandb"}[tracker]
    words = b"".join(f.read_bytes() for f in folder.rglob("*") if f.is_file())
    assert b"hunter2" not in words and b"abcdefghijk" not in words
    assert b"token=***" in words
    if tracker == "wandb":
        kinds = [r.WhichOneof("record_type") for r in offline_records(tmp_path)]
        assert "history" in kinds
        assert not {"stats", "output", "output_raw", "environment", "files"} & set(kinds)


@needs_wandb
def test_what_wandb_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    box = write_experiment(tmp_path / "store", seeds=(1, 2))
    mine = made("wandb", box)
    sent(mine)
    mine.close()
    assert there("wandb", tmp_path, "t0001-s2") == wanted(box, "t0001-s2")
    records = list(offline_records(tmp_path, "t0001-s2"))
    (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (run.project, run.entity, run.run_group) == ("reactor", "team", "cstr-ppo")
    assert run.display_name == "cstr-ppo/t0001-s2" and run.host == ""
    config = {u.key: json.loads(u.value_json) for u in run.config.update}
    assert (config["seed"], config["learner.args.n_steps"]) == ("2", "512")
    shown = str(records)
    assert "evaluate/agent/mean_return" in shown and "drillyard.status" in shown
    axes = {
        r.metric.glob_name: r.metric.step_metric
        for r in records
        if r.WhichOneof("record_type") == "metric" and r.metric.glob_name
    }
    assert axes == {"*": "environment_steps"}


@needs_wandb
def test_a_run_of_wandb_has_ended_when_its_file_is_whole(tmp_path, monkeypatch):
    """The client's `finish` returns before its service has written the last 32 KiB."""
    from wandb.sdk.lib.service.service_connection import ServiceConnection

    tell = ServiceConnection.inform_finish
    late = functools.partial(threading.Timer, 0.5)
    monkeypatch.setattr(
        ServiceConnection, "inform_finish", lambda *a, **k: late(tell, a, k).start()
    )
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    box = write_experiment(tmp_path / "store", seeds=(1,))
    tracker = made("wandb", box)
    sent(tracker)
    assert there("wandb", tmp_path) == wanted(box)
    tracker.close()


@needs_wandb
def test_a_file_of_wandb_that_stays_open_is_reported_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    box = write_experiment(tmp_path / "store", seeds=(1,))
    tracker = made("wandb", box)
    with monkeypatch.context() as slow:
        slow.setattr(wandb_tracker, "_FINISH_S", 1)
        slow.setattr(wandb_tracker, "_has_open", lambda *_: True)
        report = tracker.sync()
    assert "did not complete" in report.error and ".wandb" in report.error
    assert report.error.startswith("W&B: ") and "`drillyard sync` sends" in report.hint
    sent(tracker)
    assert there("wandb", tmp_path) == wanted(box)
    tracker.close()


def test_a_page_that_cannot_be_named_is_reported_and_raises_nothing(box, monkeypatch):
    def broken(_):
        raise RuntimeError("no page")

    monkeypatch.setattr(CsvWriter, "link", broken)
    report = made("csv", box).sync()
    assert not report.complete and report.error is not None and "no page" in report.error


def test_a_tracker_that_has_its_own_sync_needs_no_other_method(box):
    """Classes that were written when `Tracker` was a protocol of four methods."""

    class Older(Tracker):
        def __init__(self) -> None:
            self.closed = False

        def sync(self, *, trust: bool = False) -> SyncReport:
            return SyncReport(uri="here", complete=True, points=3)

        def close(self) -> None:
            self.closed = True

    older = Older()
    assert synchronised(older, trust=False, close=True).points == 3 and older.closed


def test_csv_is_live_and_says_how_a_run_ended(box, tmp_path):
    training = Training(box, tmp_path)
    training.steps(1, 3)
    mine = made("csv", box)
    sent(mine)
    assert there("csv", tmp_path) == wanted(box)
    known = tmp_path / "curves" / "cstr-ppo" / f"{RUN}.json"
    assert json.loads(known.read_text())["status"] == "RUNNING"
    training.end(Status.FAILED, Cause.USER_ERROR)
    sent(mine)
    assert json.loads(known.read_text())["status"] == "FAILED"
    (known.parent / f"{RUN}.csv").unlink()
    assert sent(made("csv", box)).points > 0, "a file that was deleted is written again"


def test_the_files_of_another_experiment_are_left_alone(box, tmp_path):
    Training(box, tmp_path).steps(1, 3)
    mine = made("csv", box)
    sent(mine)
    mine.close()
    before = there("csv", tmp_path)
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    other = Mailbox(open_store(str(tmp_path / "other")), box.experiment)
    for info in list(other.store.list(other.key("tracking/"))):
        other.store.delete(info.key)
    mine = made("csv", other)
    report = mine.sync()
    assert not report.complete and "another store" in str(report.error)
    assert there("csv", tmp_path) == before


@both
def test_a_dead_one_keeps_nobody_waiting(box, tmp_path, tracker, monkeypatch):
    """A folder that cannot be written; a server of W&B that does not answer."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    (tmp_path / "curves").write_text("a file, not a folder")
    training = Training(box, tmp_path)
    training.steps(1, 3)
    training.end(Status.FAILED, Cause.USER_ERROR)
    said: list[str] = []
    mirrors = Mirrors(box, [Target(tracker, address(tracker))], on_warning=said.append)
    mirrors.start()
    mirrors.ask()
    (report,) = mirrors.finish(0.0)
    assert not report.complete and report.tracker == tracker
    assert any("lacks 1 of 1 ended runs" in line for line in said), said
    assert [one.tracker for one in behind.behind()] == [tracker]
    again = Mirror(box, address(tracker), tracker=tracker, on_warning=said.append)
    until(lambda: "another process" not in str(again.sync_once(60).error))
    assert again.last is not None and not again.last.complete
    assert "a" * 40 not in str(again.last)


@both
def test_sync_and_status_name_it(box, tmp_path, tracker, monkeypatch):
    record = box.experiment_record()
    spec = {**record.spec, "tracking": {"mlflow": None, tracker: address(tracker)}}
    box.write("experiment.json", record.model_copy(update={"spec": spec}))
    training = Training(box, tmp_path)
    training.steps(1, 3)
    training.end(Status.FAILED, Cause.USER_ERROR)
    where = [box.experiment, "--store", box.store.url]
    assert "lacks 1 of 1 ended runs" in called(["status", *where], Path.cwd(), {}).stdout
    done = called(["sync", *where], Path.cwd(), {})
    assert done.returncode == 0, done.stderr
    assert "it is up to date" in done.stdout
    assert there(tracker, tmp_path) == wanted(box)
    assert "lacks" not in called(["status", *where], Path.cwd(), {}).stdout
