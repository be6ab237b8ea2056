"""Mirrors side by side, killed, in the background, without their driver."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Any

from drillyard.mailbox.status import Cause, Status
from drillyard.system.processes import ProcessId
from drillyard.tracking import Mirror
from drillyard.tracking.mlflow_mirror import MlflowMirror
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import (
    RUN,
    Training,
    db,
    has_exactly,
    runs_of,
)
from tests.helpers.patience import PATIENCE_S, until


def test_many_mirrors_at_once_make_one_of_everything(tmp_path):
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


def test_kill_9_in_the_middle_then_sync(box, tmp_path):
    training = Training(box, tmp_path)
    mirror = Mirror(box, db(box))
    for number in range(3):
        training.steps(number * 400 + 1, number * 400 + 400)
        mirror.start(interval_s=0.05)
        child = mirror._child
        assert child is not None and child.stdin is not None
        if number:
            # Somewhere between the start and the end of what it does.
            threading.Event().wait(1.2 + 0.35 * number)
        else:
            until(lambda m=mirror: m.last is not None)  # type: ignore[misc]
        child.kill()
        child.wait()
        child.stdin.close()
        mirror = Mirror(box, db(box))
    report = mirror.sync_once()
    assert report.complete, report
    assert set(runs_of(db(box))) == {"experiment", RUN}
    assert has_exactly(db(box), box)


def test_the_background_process_follows_and_ends(box, tmp_path):
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


def test_leaving_waits_for_nothing_and_the_last_points_arrive(box, tmp_path):
    training = Training(box, tmp_path)
    mirror = Mirror(box, db(box))
    mirror.start(interval_s=3600.0)
    child = mirror._child
    assert child is not None
    training.steps(1, 10)
    training.end(Status.FAILED, Cause.USER_ERROR, "no")
    mirror.leave()
    assert child.wait(PATIENCE_S) == 0
    assert has_exactly(db(box), box)
    assert runs_of(db(box))[RUN].info.status == "FAILED"


def test_it_goes_on_when_its_driver_dies_and_ends_with_the_runs(box, tmp_path):
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
    until(lambda: ProcessId.of(pid) is None)
    assert runs_of(db(box))[RUN].info.status == "FAILED"


def test_two_that_make_the_same_run_at_once_leave_one(box, tmp_path, monkeypatch):
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
