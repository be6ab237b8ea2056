"""What arrives in MLflow: points, files, states; again, after resumes, after mistakes."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from drillyard.mailbox.records import (
    Cancel,
    Phase,
    Reopened,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import read_stream
from drillyard.system.clock import SYSTEM
from drillyard.tracking import Mirror
from drillyard.tracking.mlflow_mirror import MlflowMirror
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import (
    RUN,
    Training,
    client,
    db,
    has_exactly,
    runs_of,
)
from tests.helpers.processes import free_port


def test_a_finished_experiment_arrives_whole(store, tmp_path):
    box = write_experiment(store, seeds=(1, 2))
    box.store.put(box.key("report/index.html"), b"<h1>hello</h1>")
    report = MlflowMirror(box, db(box)).sync()
    assert report.complete, report
    assert report.points > 100
    runs = runs_of(db(box))
    assert set(runs) == {"experiment", "t0001-s1", "t0001-s2"}
    parent, child = runs["experiment"], runs["t0001-s2"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["drillyard.run"] == f"{box.store.url}/cstr-ppo/t0001-s2"
    assert child.data.tags["mlflow.source.git.commit"].startswith("0123")
    assert child.data.tags["drillyard.git_dirty"] == "true"
    assert child.data.tags["version.torch"] == "2.13.0+cpu"
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    # What the built model has, by its plain name; what the file says, by its path.
    assert child.data.params["gamma"] == "0.99"
    assert child.data.params["learner.args.n_steps"] == "512"
    assert child.data.params["seed"] == "2"
    for run in ("t0001-s1", "t0001-s2"):
        assert has_exactly(db(box), box, run)
    scores = client(db(box)).get_metric_history(child.info.run_id, "evaluate/agent/mean_return")
    evaluated = box.accepted("t0001-s2", Phase.EVALUATE)
    assert evaluated is not None
    assert [(m.step, m.value) for m in scores] == [
        (60_000, evaluated.summary["policies"]["agent"]["mean_return"])
    ]
    # The time of a point is the time at which it was made, not at which it was sent.
    line = read_stream(box, "t0001-s2", "train")[3]
    key = "rollout/ep_rew_mean"
    sent = client(db(box)).get_metric_history(child.info.run_id, key)[3]
    assert (sent.step, sent.timestamp) == (line["step"], round(line["time"] * 1000))
    # Files lie in the store, wherever the process was started.
    c = client(db(box))
    local = c.download_artifacts(parent.info.run_id, "report/index.html", str(tmp_path))
    assert Path(local).read_bytes() == b"<h1>hello</h1>"
    assert parent.info.artifact_uri.startswith((tmp_path / "store").as_uri())
    spec = c.download_artifacts(parent.info.run_id, "experiment.json", str(tmp_path))
    assert json.loads(Path(spec).read_text())["learner"]["args"]["n_steps"] == 512


def test_again_sends_nothing_and_more_seeds_join(store, tmp_path):
    box = write_experiment(store, seeds=(1, 2), finished=1)
    first = MlflowMirror(box, db(box)).sync()
    assert first.complete
    again = MlflowMirror(box, db(box)).sync()
    assert (again.points, again.artifacts, again.complete) == (0, 0, True)
    assert has_exactly(db(box), box)


def test_notes_lost_and_database_lost(store, empty_database):
    box = write_experiment(store, seeds=(1,))
    assert MlflowMirror(box, db(box)).sync().complete
    for info in list(box.store.list(box.key("tracking/"))):
        if not info.key.endswith("/id.json"):
            box.store.delete(info.key)
    assert MlflowMirror(box, db(box)).sync().points == 0
    assert has_exactly(db(box), box)
    # A database that was lost is filled again by whoever does not trust the notes.
    engine_is_kept = f"{db(box)}?fresh"
    shutil.copy(empty_database, store / "mlflow.db")
    assert MlflowMirror(box, engine_is_kept).sync().points > 0
    assert has_exactly(engine_is_kept, box)


def test_a_resumed_run_is_one_run_and_one_curve(box, tmp_path):
    from drillyard.runs import checkpoints

    mirror = MlflowMirror(box, db(box))
    one = Training(box, tmp_path)
    offsets = one.steps(1, 20)
    checkpoints.save(box, RUN, 1, 2000, 1, {}, offsets, time.time())
    one.steps(21, 30)  # beyond the checkpoint, mirrored, and made again by the next attempt
    assert mirror.sync().complete
    assert runs_of(db(box))[RUN].info.status == "RUNNING"
    one.end(Status.FAILED, Cause.PREEMPTION)
    two = Training(box, tmp_path, 2, offsets=offsets, resumed_attempt=1, resumed_step=2000)
    two.steps(21, 26)
    assert mirror.sync().points == 0, "the server has these steps from the attempt before"
    two.steps(27, 33)
    assert mirror.sync().points == 2 * 3
    two.steps(34, 36)
    assert MlflowMirror(box, db(box)).sync().points == 2 * 3 + 1, "also by a new process"
    assert has_exactly(db(box), box)


def test_an_answer_that_was_lost_doubles_nothing(box, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    Training(box, tmp_path).steps(1, 12)
    honest = MlflowClient.log_batch

    def deaf(self: Any, run_id: str, metrics: Any = (), **more: Any) -> Any:
        honest(self, run_id, metrics=metrics, **more)
        if metrics:
            raise ConnectionError("the answer was lost")

    mirror = MlflowMirror(box, db(box))
    monkeypatch.setattr(MlflowClient, "log_batch", deaf)
    report = mirror.sync()
    assert not report.complete
    assert "the answer was lost" in str(report.error)
    monkeypatch.setattr(MlflowClient, "log_batch", honest)
    assert mirror.sync().complete
    assert has_exactly(db(box), box)


@pytest.mark.parametrize(
    ("status", "cause", "word"),
    [
        (Status.FAILED, Cause.USER_ERROR, "FAILED"),
        (Status.TIMED_OUT, Cause.TIME_LIMIT, "FAILED"),
        (Status.CANCELLED, Cause.CANCELLED, "KILLED"),
    ],
)
def test_how_a_run_ended_arrives(box, tmp_path, status, cause, word):
    training = Training(box, tmp_path)
    training.steps(1, 3)
    training.end(status, cause, "why: token=abcdefghijk")
    if status is Status.CANCELLED:
        box.write("control/cancel.json", Cancel(reason="r", by="u", written_at=1.0))
    assert MlflowMirror(box, db(box)).sync().complete
    runs = runs_of(db(box))
    assert (runs[RUN].info.status, runs["experiment"].info.status) == (word, word)
    assert runs[RUN].data.tags["drillyard.status"] == status.value
    assert has_exactly(db(box), box)
    if status is Status.FAILED:
        assert runs[RUN].data.tags["drillyard.message"] == "why: token=***"


def test_killed_with_nobody_left_then_resumed(box, tmp_path):
    training = Training(box, tmp_path)
    training.steps(1, 3)
    old = time.time() - 3600
    os.utime(Path(box.store.url) / box.key(f"board/{RUN}.json"), (old, old))
    mirror = MlflowMirror(box, db(box))
    assert mirror.settled()
    mirror.sync()
    assert runs_of(db(box))[RUN].info.status == "KILLED"
    box.write("control/reopened.json", Reopened(after={}))
    training.beat()
    assert not mirror.settled()
    mirror.sync()
    assert runs_of(db(box))[RUN].info.status == "RUNNING"


def test_an_experiment_deleted_in_mlflow_is_not_made_again(store, tmp_path):
    box = write_experiment(store, seeds=(1,))
    assert MlflowMirror(box, db(box)).sync().complete
    c = client(db(box))
    c.delete_experiment(c.get_experiment_by_name("cstr-ppo").experiment_id)
    report = MlflowMirror(box, db(box)).sync()
    assert not report.complete
    assert "deleted" in str(report.error)
    assert "restore" in str(report.hint)


def test_a_strange_uri_and_secrets_in_it(tmp_path):
    box = write_experiment(tmp_path / "store", seeds=(1,))
    report = MlflowMirror(box, "gopher://me:hunter2@host/x").sync()
    assert not report.complete
    assert "hunter2" not in report.to_json()
    assert "me:" not in report.to_json()


def test_tracking_off_does_nothing(tmp_path):
    box = write_experiment(tmp_path / "store", seeds=(1,))
    mirror = Mirror(box, None)
    mirror.start()
    assert mirror.sync_once().complete
    assert mirror.finish().uri is None
    assert not list(box.store.list(box.key("tracking/")))
    assert SYSTEM.now() > 0


def test_sync_sends_everything_and_names_a_dead_server(store, capsys, monkeypatch):
    from drillyard.cli.main import main

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    box = write_experiment(store, seeds=(1,))
    assert main(["sync", "cstr-ppo", "--store", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["complete"] is True
    assert told["points"] > 0
    assert has_exactly(db(box), box)
    dead = f"http://127.0.0.1:{free_port()}"
    assert main(["sync", "cstr-ppo", "--store", str(store), "--uri", dead]) == 4
    said = capsys.readouterr().err
    assert "does not answer" in said
    assert "Traceback" not in said
