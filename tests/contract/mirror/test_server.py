"""A real server that hangs, dies and comes back; files through it."""

from __future__ import annotations

import signal
from pathlib import Path

from drillyard.tracking import Mirror
from drillyard.tracking.mlflow_mirror import MlflowMirror
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import (
    RUN,
    Training,
    client,
    has_exactly,
    runs_of,
)
from tests.helpers.patience import until


def test_hung_and_dead_servers_cost_bounded_time_and_no_points(box, tmp_path, live):
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
    report = mirror.finish(timeout_s=2)
    assert not report.complete
    assert not Mirror(box, live.uri, on_warning=warnings.append).sync_once(2).complete

    live.kill()
    training.steps(21, 30)
    dead = Mirror(box, live.uri, on_warning=warnings.append)
    dead.start(interval_s=0.2, request_timeout_s=1)
    until(lambda: dead.last is not None)
    training.steps(31, 40)
    assert not dead.finish(timeout_s=2).complete
    assert len([w for w in warnings if "not up to date" in w]) == 3, "one a mirror"
    assert all("drillyard sync cstr-ppo" in w for w in warnings)
    assert "waiting for the last points in MLflow, 2 s at most" in warnings[1]

    live.start()
    report = Mirror(box, live.uri).sync_once()
    assert report.complete, report
    assert set(runs_of(live.uri)) == {"experiment", RUN}
    assert has_exactly(live.uri, box)
    assert Mirror(box, live.uri).sync_once().points == 0


def test_files_go_through_a_server(tmp_path, live):
    box = write_experiment(tmp_path / "store", name="files", seeds=(1,))
    box.store.put(box.key("report/index.html"), b"<h1>hello</h1>")
    assert MlflowMirror(box, live.uri).sync().complete
    parent = runs_of(live.uri, "files")["experiment"]
    local = client(live.uri).download_artifacts(
        parent.info.run_id, "report/index.html", str(tmp_path)
    )
    assert Path(local).read_bytes() == b"<h1>hello</h1>"
