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
import signal
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from drillyard.mailbox import Mailbox, open_store
from drillyard.metrics.streams import read_stream
from drillyard.tracking.points import points_of
from tests.helpers.mirrors import LiveServer

from . import common
from .training_sides import RUN, RunSide, end_on_sigterm, in_turns

STEPS, WARM = 81_920, 12_288
DEAD = "http://127.0.0.1:9"
KINDS = ("healthy", "dead", "hung")


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
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as at_the_end:
        folder = Path(name)
        server = LiveServer(folder / "server")
        at_the_end.callback(server.kill)
        server.start()
        uris = {"healthy": server.uri, "dead": DEAD, "hung": server.uri}
        for n in range(rounds):
            for kind in KINDS:
                server.signal(signal.SIGSTOP if kind == "hung" else signal.SIGCONT)
                told = side(folder, f"{kind}-{n}", steps, uris[kind])
                with_, without = in_turns(told, side(folder, f"{kind}-{n}-off", steps, None), WARM)
                ratios[kind].append(with_ / without)
                print(kind, f"{with_:.0f} {without:.0f} {with_ / without:.3f}", flush=True)
        server.signal(signal.SIGCONT)
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
