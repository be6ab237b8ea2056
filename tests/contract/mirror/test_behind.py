"""A session that ends before MLflow has everything: the rest arrives, and what lacks is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.status import Cause, Status
from drillyard.tracking import Mirror, behind, mirrors
from drillyard.tracking.tracker import MLFLOW, Target
from tests.helpers.command_line import called
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.mirrors import RUN, LiveServer, Training, has_exactly
from tests.helpers.patience import until


@pytest.fixture
def live(tmp_path, empty_database):
    """A server of its own: the experiments of these tests have one name."""
    server = LiveServer(tmp_path / "server")
    shutil.copy(empty_database, server.folder / "server.db")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def said(box, live, tmp_path, monkeypatch):
    """A run that has ended, a server of its own address, and what the mirror says."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", live.uri)
    training = Training(box, tmp_path)
    training.steps(1, 40)
    training.end(Status.FAILED, Cause.USER_ERROR, "the pump is dry")
    return []


def status(box: Mailbox) -> str:
    done = called(["status", box.experiment, "--store", box.store.url], Path.cwd(), {})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_mirror_goes_on_after_the_session_has_ended(box, live, said):
    mirror = Mirror(box, live.uri, on_warning=said.append)
    mirror.start(interval_s=600)
    report = mirror.finish(timeout_s=0.0)  # it has not even imported MLflow
    assert not report.complete
    assert any(RUN in line and "lacks 1 of 1 ended runs" in line for line in said), said
    assert [one.experiment for one in behind.behind()] == [box.experiment]
    assert not behind.lacking(box, Target(MLFLOW, live.uri)) or f"({RUN})" in status(box)
    until(lambda: not behind.behind(), what="the end of the process that goes on")
    assert has_exactly(live.uri, box)
    assert not behind.lacking(box, Target(MLFLOW, live.uri))
    assert "lacks" not in status(box)


def test_what_a_dead_server_lacks_is_said_and_sent_by_the_reaper(box, live, said, tmp_path):
    live.kill()
    mirror = Mirror(box, live.uri, on_warning=said.append)
    mirror.start(interval_s=0.2, request_timeout_s=1)
    until(lambda: mirror.last is not None)
    assert not mirror.finish(timeout_s=60).complete
    sentence = f"MLflow at {live.uri} lacks 1 of 1 ended runs ({RUN})"
    assert any(line.startswith(sentence) for line in said), said
    assert sentence in status(box)
    (failed,) = mirrors.catch_up(timeout_s=5)
    assert "is not up to date" in failed and behind.behind()

    live.start()
    reaped = called(["reap", "--on", "local", "--json"], Path.cwd(), {})
    assert reaped.returncode == 0, reaped.stderr
    assert json.loads(reaped.stdout)["tracking"] == [
        f"{box.experiment}: MLflow at {live.uri} is up to date"
    ]
    assert has_exactly(live.uri, box)
    assert behind.behind() == [] and "lacks" not in status(box)


def test_another_server_here_is_not_taken_for_it(box, said, monkeypatch):
    behind.note(box, Target(MLFLOW, "http://elsewhere:5000"))
    (line,) = mirrors.catch_up()
    assert "no address here" in line and f"drillyard sync {box.experiment}" in line
    assert behind.behind()


def test_only_the_runs_that_are_missing_are_named(tmp_path):
    made = write_experiment(tmp_path / "store", name="three", seeds=(1, 2, 3))
    uri = f"sqlite:///{tmp_path}/none.db"
    place = Target(MLFLOW, uri)
    lacking = behind.lacking(made, place)
    assert lacking.ended == len(lacking.runs) > 1
    assert (
        behind.lacking(made, Target(MLFLOW, uri))
        .sentence("three")
        .endswith("`drillyard sync three` sends it")
    )
