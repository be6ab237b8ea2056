"""What a mirror should have sent, what MLflow has, and a server to be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import (
    AttemptStart,
    Ending,
    Phase,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import StreamWriter, read_stream
from drillyard.tracking import resolve_uri
from drillyard.tracking.points import STREAMS, points_of
from tests.helpers.patience import until
from tests.helpers.processes import free_port
from tests.helpers.records import board_of, claim_of

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
        ticket = ticket_id(RUN, Phase.TRAIN)
        self.claim = claim_of(ticket, attempt, token=str(attempt), claimed_at=time.time())
        assert box.claim(self.claim)
        folder = box.attempt_path(RUN, Phase.TRAIN, attempt)
        box.write(
            f"{folder}/start.json", AttemptStart(attempt=attempt, started_at=time.time(), **resume)
        )
        self.writer = StreamWriter(box, RUN, attempt, offsets)
        self.beat()

    def beat(self) -> None:
        board = board_of(RUN, attempt=self.attempt, written_at=time.time())
        self.box.write(f"board/{RUN}.json", board)

    def steps(self, first: int, last: int) -> dict[str, int]:
        for step in range(first, last + 1):
            metrics = {"rollout/ep_rew_mean": step / 7, "train/loss": None, "train/clip": 0.1}
            self.writer.append("train", step * 100, metrics)
            if step % 5 == 0:
                self.writer.append("evaluation", step * 100, {"eval/mean_reward": step / 3})
        self.beat()
        return self.writer.flush()

    def end(self, status: Status, cause: Cause | None, message: str = "") -> None:
        self.box.end(
            Ending(
                ticket=self.claim.ticket,
                attempt=self.attempt,
                status=status,
                cause=cause,
                message=message,
                by="w",
                ended_at=time.time(),
            )
        )


class LiveServer:
    """`mlflow server` on loopback, that can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        places = (
            f"--backend-store-uri=sqlite:///{self.folder}/server.db",
            f"--artifacts-destination={self.folder}/artifacts",
        )
        self.process = subprocess.Popen(
            [sys.executable, *f"-m mlflow server --port {self.port} --workers 1".split(), *places],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.folder,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )
        until(self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
