"""What a tracking server that is dead or hung costs training, and that its points arrive later.

    python -m tests.benchmarks.dead_mlflow [rounds [steps]]

Three kinds: a healthy MLflow server; a dead one (nothing listens); a hung one (the healthy one,
stopped by SIGSTOP: connections are taken and nothing is answered). Each run has a twin without
tracking, with which it takes turns (``turns.py``). Compared are steps/s of the training loop from
``WARM`` steps on. At the end the server goes on, `drillyard sync` is called twice for each dead
and hung run, and every point of every curve must be there once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drillyard.mailbox import Mailbox, open_store
from drillyard.metrics.streams import read_stream
from drillyard.tracking.points import points_of

from . import common
from .training_sides import RUN, RunSide, end_on_sigterm, in_turns

STEPS, WARM = 81_920, 12_288
DEAD = "http://127.0.0.1:9"
KINDS = ("healthy", "dead", "hung")


@dataclass
class Tracking:
    """A real MLflow server and the processes that it consists of."""

    uri: str
    process: subprocess.Popen[bytes]

    def send(self, number: signal.Signals) -> None:
        """To all of its processes."""
        os.killpg(self.process.pid, number)


@contextlib.contextmanager
def tracking(folder: Path) -> Iterator[Tracking]:
    """A server with a database of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination",
            str(folder / "artifacts"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Tracking(f"http://127.0.0.1:{port}", process)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{server.uri}/health", timeout=1)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise SystemExit("mlflow server did not start") from None
                time.sleep(0.2)
        yield server
    finally:
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                server.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5 if number is signal.SIGTERM else 0.1)
        process.wait()


def side(folder: Path, name: str, steps: int, uri: str | None) -> RunSide:
    """One `drillyard run` that tells a server, or nobody."""
    return RunSide(folder, name, steps, uri or "null", "--offline-ok")


def arrived(folder: Path, name: str, uri: str) -> str:
    """Sync twice, then compare what the server has with the streams, point by point."""
    store = str(folder / f"store-{name}")
    for _ in range(2):
        common.drillyard(folder, "sync", name, "--uri", uri, "--store", store)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`drillyard.name` = '{RUN}'")
    wanted = Counter(
        (point.key, point.step)
        for stream in ("train", "timing")
        for line in read_stream(Mailbox(open_store(store), name), RUN, stream)
        for point in points_of(line)
    )
    there = Counter(
        (point.key, point.step)
        for key in {key for key, _ in wanted}
        for point in client.get_metric_history(run.info.run_id, key)
    )
    if there != wanted:
        raise SystemExit(f"{name}: missing {wanted - there}, too many {there - wanted}")
    return f"{len(wanted)} points, each once"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    ratios: dict[str, list[float]] = {kind: [] for kind in KINDS}
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as name, tracking(Path(name)) as server:
        folder = Path(name)
        uris = {"healthy": server.uri, "dead": DEAD, "hung": server.uri}
        for n in range(rounds):
            for kind in KINDS:
                server.send(signal.SIGSTOP if kind == "hung" else signal.SIGCONT)
                told = side(folder, f"{kind}-{n}", steps, uris[kind])
                with_, without = in_turns(told, side(folder, f"{kind}-{n}-off", steps, None), WARM)
                ratios[kind].append(with_ / without)
                print(kind, f"{with_:.0f} {without:.0f} {with_ / without:.3f}", flush=True)
        server.send(signal.SIGCONT)
        late = [f"{kind}-{n}" for kind in ("dead", "hung") for n in range(rounds)]
        arrivals = [(f"after sync, {name}", arrived(folder, name, server.uri)) for name in late]
    rows = [
        (kind, f"{statistics.median(r):5.3f}   {' '.join(f'{x:.3f}' for x in r)}")
        for kind, r in ratios.items()
    ]
    common.table(f"steps/s beside a server over steps/s without, {steps} steps", rows)
    common.table("points that the server missed", arrivals)


if __name__ == "__main__":
    main()
