"""The MLflow mirror against a real database and a real server that is stopped, killed, revived."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drillyard.clock import SYSTEM
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import (
    AttemptStart,
    Board,
    Cancel,
    Claim,
    Ending,
    Phase,
    Reopened,
)
from drillyard.status import Cause, Status
from drillyard.streams import StreamWriter, read_stream
from drillyard.tracking import Mirror, resolve_uri
from drillyard.tracking.mlflow_mirror import MlflowMirror
from drillyard.tracking.points import STREAMS, points_of
from tests.fixtures_store import write_experiment
from tests.patience import until

RUN = "t0001-s1"


def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def db(box: Mailbox) -> str:
    uri = resolve_uri("auto", box.store.url, environ={})
    assert uri is not None
    return uri


def runs_of(uri: str, name: str = "cstr-ppo") -> dict[str, Any]:
    """Run name -> run; fails when one stands there twice."""
    c = client(uri)
    experiment = c.get_experiment_by_name(name)
    found = c.search_runs([experiment.experiment_id])
    names = Counter(r.data.tags["drillyard.name"] for r in found)
    assert set(names.values()) <= {1}, names
    return {r.data.tags["drillyard.name"]: r for r in found}


def wanted(box: Mailbox, run: str = RUN) -> dict[str, list[tuple[int, float]]]:
    """Key -> (step, value) of every point of the merged streams."""
    found: dict[str, list[tuple[int, float]]] = {}
    for stream in STREAMS:
        for line in read_stream(box, run, stream):
            for point in points_of(line):
                found.setdefault(point.key, []).append((point.step, point.value))
    assert found
    return found


def has_exactly(uri: str, box: Mailbox, run: str = RUN) -> bool:
    run_id = runs_of(uri)[run].info.run_id
    c = client(uri)
    for key, points in wanted(box, run).items():
        there = sorted((m.step, m.value) for m in c.get_metric_history(run_id, key))
        if there != sorted(points):
            return False
    return True


class Training:
    """A run that trains: appends points as the learner does."""

    def __init__(self, box: Mailbox, scratch: Path, attempt: int = 1, **resume: Any) -> None:
        self.box, self.attempt = box, attempt
        offsets = resume.pop("offsets", None)
        self.claim = Claim(ticket=ticket_id(RUN, Phase.TRAIN), attempt=attempt, worker="w",
                           token=str(attempt), claimed_at=time.time())  # fmt: skip
        assert box.claim(self.claim)
        folder = box.attempt_path(RUN, Phase.TRAIN, attempt)
        box.write(f"{folder}/start.json",
                  AttemptStart(attempt=attempt, started_at=time.time(), **resume))  # fmt: skip
        self.writer = StreamWriter(box, RUN, attempt, offsets)
        self.beat()

    def beat(self) -> None:
        self.box.write(f"board/{RUN}.json", Board(
            run=RUN, phase=Phase.TRAIN, attempt=self.attempt, worker="w",
            written_at=time.time()))  # fmt: skip

    def steps(self, first: int, last: int) -> dict[str, int]:
        for step in range(first, last + 1):
            metrics = {"rollout/ep_rew_mean": step / 7, "train/loss": None, "train/clip": 0.1}
            self.writer.append("train", step * 100, metrics)
            if step % 5 == 0:
                self.writer.append("evaluation", step * 100, {"eval/mean_reward": step / 3})
        self.beat()
        return self.writer.flush()

    def end(self, status: Status, cause: Cause | None, message: str = "") -> None:
        self.box.end(Ending(
            ticket=self.claim.ticket, attempt=self.attempt, status=status, cause=cause,
            message=message, by="w", ended_at=time.time()))  # fmt: skip


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database: two seconds that the tests share."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client(f"sqlite:///{path}").get_experiment("0")
    return path


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Path:
    """A store's folder with an empty tracking database."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def box(store: Path) -> Mailbox:
    """An experiment of one seed that nobody has begun."""
    made = write_experiment(store, seeds=(1,), finished=0, failed=-1)
    for info in list(made.store.list(made.key("driver/"))):
        made.store.delete(info.key)
    return made


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class LiveServer:
    """`mlflow server` on loopback, that can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri",
             f"sqlite:///{self.folder}/server.db", "--artifacts-destination",
             str(self.folder / "artifacts"), "--port", str(self.port), "--workers", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd=self.folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true",
                 "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        until(self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("mlflow") / "server")
    shutil.copy(empty_database, server.folder / "server.db")
    server.start()
    yield server
    server.kill()


# -- what arrives ------------------------------------------------------------------------------


def test_a_finished_experiment_arrives_whole(store: Path, tmp_path: Path) -> None:
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


def test_again_sends_nothing_and_more_seeds_join(store: Path, tmp_path: Path) -> None:
    box = write_experiment(store, seeds=(1, 2), finished=1)
    first = MlflowMirror(box, db(box)).sync()
    assert first.complete
    again = MlflowMirror(box, db(box)).sync()
    assert (again.points, again.artifacts, again.complete) == (0, 0, True)
    assert has_exactly(db(box), box)


def test_notes_lost_and_database_lost(store: Path, empty_database: Path) -> None:
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


# -- resumes -----------------------------------------------------------------------------------


def test_a_resumed_run_is_one_run_and_one_curve(box: Mailbox, tmp_path: Path) -> None:
    from drillyard import checkpoints

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


def test_an_answer_that_was_lost_doubles_nothing(
    box: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


# -- terminal states ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cause", "word"),
    [
        (Status.FAILED, Cause.USER_ERROR, "FAILED"),
        (Status.TIMED_OUT, Cause.TIME_LIMIT, "FAILED"),
        (Status.CANCELLED, Cause.CANCELLED, "KILLED"),
    ],
)
def test_ends(box: Mailbox, tmp_path: Path, status: Status, cause: Cause, word: str) -> None:
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


def test_killed_with_nobody_left_then_resumed(box: Mailbox, tmp_path: Path) -> None:
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


# -- many at once, and kills -------------------------------------------------------------------


def test_many_mirrors_at_once_make_one_of_everything(tmp_path: Path) -> None:
    box = write_experiment(tmp_path / "store", seeds=(1,))
    other = write_experiment(tmp_path / "store", name="other", seeds=(1,))
    mirrors = [Mirror(b, db(b)) for b in (box, box, other)]
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda m=m: reports.append(m.sync_once())) for m in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(r.complete for r in reports), reports
    assert set(runs_of(db(box))) == {"experiment", RUN}
    assert set(runs_of(db(box), "other")) == {"experiment", RUN}
    assert has_exactly(db(box), box)


def test_kill_9_in_the_middle_then_sync(box: Mailbox, tmp_path: Path) -> None:
    training = Training(box, tmp_path)
    mirror = Mirror(box, db(box))
    for number in range(3):
        training.steps(number * 400 + 1, number * 400 + 400)
        mirror.start(interval_s=0.05)
        child = mirror._child
        assert child is not None
        if number:
            # Somewhere between the start and the end of what it does.
            threading.Event().wait(1.2 + 0.35 * number)
        else:
            until(lambda m=mirror: m.last is not None)  # type: ignore[misc]
        child.kill()
        child.wait()
        mirror = Mirror(box, db(box))
    report = mirror.sync_once()
    assert report.complete, report
    assert set(runs_of(db(box))) == {"experiment", RUN}
    assert has_exactly(db(box), box)


def test_the_background_process_follows_and_ends(box: Mailbox, tmp_path: Path) -> None:
    training = Training(box, tmp_path)
    training.steps(1, 10)
    mirror = Mirror(box, db(box))
    before = dict(os.environ)
    mirror.start(interval_s=0.1)
    until(lambda: mirror.last is not None and mirror.last.points == 22)
    training.steps(11, 20)
    until(lambda: has_exactly(db(box), box))
    child = mirror._child
    assert child is not None
    training.steps(21, 25)
    report = mirror.finish()
    assert report.complete, report
    assert child.poll() is not None
    assert has_exactly(db(box), box)
    assert dict(os.environ) == before, "the bounds are the child's alone"


def test_it_goes_on_when_its_driver_dies_and_ends_with_the_runs(
    box: Mailbox, tmp_path: Path
) -> None:
    training = Training(box, tmp_path)
    training.steps(1, 5)
    code = (
        "import sys, time; from drillyard.mailbox import Mailbox, open_store;"
        "from drillyard.tracking import Mirror;"
        "m = Mirror(Mailbox(open_store(sys.argv[1]), 'cstr-ppo'), sys.argv[2]); m.start(0.1);"
        "print(m._child.pid, flush=True);"
        "time.sleep(60)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, box.store.url, db(box)], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    training.steps(6, 10)

    def there() -> bool:
        with contextlib.suppress(AttributeError, KeyError):
            return has_exactly(db(box), box)
        return False

    until(there)
    training.end(Status.FAILED, Cause.USER_ERROR, "no")
    until(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid))
    assert runs_of(db(box))[RUN].info.status == "FAILED"


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def test_two_that_make_the_same_run_at_once_leave_one(
    box: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drillyard.tracking.server import Server

    Training(box, tmp_path).steps(1, 3)
    honest = Server.create
    others: list[Any] = []

    def slow(self: Server, *arguments: Any) -> str:
        made = honest(self, *arguments)
        if not others:  # before this one can say so, another one does it all
            others.append(MlflowMirror(box, db(box)))
            found = others[0]
            monkeypatch.setattr(Server, "find", lambda *_: [])
            assert found.sync().complete
        return made

    monkeypatch.setattr(Server, "create", slow)
    assert MlflowMirror(box, db(box)).sync().complete
    assert set(runs_of(db(box))) == {"experiment", RUN}
    assert has_exactly(db(box), box)


# -- a real server -----------------------------------------------------------------------------


def test_hung_and_dead_servers_cost_bounded_time_and_no_points(
    box: Mailbox, tmp_path: Path, live: LiveServer
) -> None:
    training = Training(box, tmp_path)
    training.steps(1, 10)
    warnings: list[str] = []
    mirror = Mirror(box, live.uri, on_warning=warnings.append)
    mirror.start(interval_s=0.2, request_timeout_s=1)
    until(lambda: mirror.last is not None and mirror.last.complete and mirror.last.points > 0)
    assert mirror.last is not None
    assert mirror.last.link is not None
    assert mirror.last.link.startswith(f"{live.uri}/#/experiments/")

    live.signal(signal.SIGSTOP)
    training.steps(11, 20)  # it hangs for ever: whoever waited for it would too
    until(lambda: bool(warnings))
    report = mirror.finish(timeout_s=4)
    assert not report.complete
    assert not Mirror(box, live.uri, on_warning=warnings.append).sync_once(3).complete

    live.kill()
    training.steps(21, 30)
    dead = Mirror(box, live.uri, on_warning=warnings.append)
    dead.start(interval_s=0.2, request_timeout_s=1)
    until(lambda: dead.last is not None)
    training.steps(31, 40)
    assert not dead.finish(timeout_s=6).complete
    assert len(warnings) == 3, "one a mirror"
    assert "drillyard sync cstr-ppo" in warnings[0]

    live.start()
    report = Mirror(box, live.uri).sync_once()
    assert report.complete, report
    assert set(runs_of(live.uri)) == {"experiment", RUN}
    assert has_exactly(live.uri, box)
    assert Mirror(box, live.uri).sync_once().points == 0


def test_files_go_through_a_server(tmp_path: Path, live: LiveServer) -> None:
    box = write_experiment(tmp_path / "store", name="files", seeds=(1,))
    box.store.put(box.key("report/index.html"), b"<h1>hello</h1>")
    assert MlflowMirror(box, live.uri).sync().complete
    parent = runs_of(live.uri, "files")["experiment"]
    local = client(live.uri).download_artifacts(
        parent.info.run_id, "report/index.html", str(tmp_path)
    )
    assert Path(local).read_bytes() == b"<h1>hello</h1>"


# -- what users get wrong ----------------------------------------------------------------------


def test_an_experiment_deleted_in_mlflow_is_not_made_again(store: Path, tmp_path: Path) -> None:
    box = write_experiment(store, seeds=(1,))
    assert MlflowMirror(box, db(box)).sync().complete
    c = client(db(box))
    c.delete_experiment(c.get_experiment_by_name("cstr-ppo").experiment_id)
    report = MlflowMirror(box, db(box)).sync()
    assert not report.complete
    assert "deleted" in str(report.error)
    assert "restore" in str(report.hint)


def test_a_strange_uri_and_secrets_in_it(tmp_path: Path) -> None:
    box = write_experiment(tmp_path / "store", seeds=(1,))
    report = MlflowMirror(box, "gopher://me:hunter2@host/x").sync()
    assert not report.complete
    assert "hunter2" not in report.to_json()
    assert "me:" not in report.to_json()


def test_tracking_off_does_nothing(tmp_path: Path) -> None:
    box = write_experiment(tmp_path / "store", seeds=(1,))
    mirror = Mirror(box, None)
    mirror.start()
    assert mirror.sync_once().complete
    assert mirror.finish().uri is None
    assert not list(box.store.list(box.key("tracking/")))
    assert SYSTEM.now() > 0


def test_the_command(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
