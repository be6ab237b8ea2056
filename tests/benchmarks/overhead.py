"""Whole `drillyard run` minus the same `model.learn` in a plain script, and where the seconds go.

    python -m tests.benchmarks.overhead [rounds]

Printed: the first run on a machine (empty Prefect database), with the embedded server and a
migrated database, and against a server that is running already. Rounds alternate the sides,
medians are compared. There are no baselines. The report is not built (``without_report.py``), and
the time of building it in a process of its own is printed apart; the evaluation phase of ten
episodes, which the plain script does not have, is in. Memory is that of the largest process (RSS),
which is the one that trains or the command itself, and that of all processes together (PSS: a page
that processes share counts once).
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.processes import free_port

from . import common

STEPS, EVERY = 40_960, 20_480
BUILD = """\
import sys
from drillyard.mailbox import Mailbox, open_store
from drillyard.report import build
build(Mailbox(open_store("drillyard-runs"), sys.argv[1]))
"""
Moments = dict[str, float]
"""What was reached -> seconds since the command began, in the order of time."""


class Memory:
    """The largest memory of this process's children while the block lasts, in MiB.

    Args:
        without: Processes that do not count, such as a server for all rounds.
    """

    def __init__(self, *without: int) -> None:
        self.process = self.together = 0.0
        self._without, self._over = set(without), threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.25):
            known = [c for c in me.children() if c.pid not in self._without]
            for each in list(known):
                with contextlib.suppress(psutil.Error):
                    known += each.children(recursive=True)
            together = 0.0
            for each in known:
                with contextlib.suppress(psutil.Error):
                    used = each.memory_full_info()
                    self.process = max(self.process, used.rss / 2**20)
                    together += used.pss / 2**20
            self.together = max(self.together, together)


def pipeline(folder: Path, name: str, **env: str) -> tuple[float, Moments]:
    """Seconds of one whole `drillyard run` without its report, and when it was where."""
    file = folder / f"{name}.yaml"
    file.write_text(common.EXPERIMENT.format(name=name, steps=STEPS, every=EVERY, seeds=[1]))
    began = time.time()
    command = [sys.executable, "-m", "tests.benchmarks.without_report", "run", str(file)]
    path = os.pathsep.join([str(common.ROOT), os.environ.get("PYTHONPATH", "")])
    done = common.timed([*command, "--json"], folder, PYTHONPATH=path, **env)
    return done.seconds, moments(folder / "drillyard-runs" / name, began, began + done.seconds)


def moments(experiment: Path, began: float, ended: float) -> Moments:
    """What the mailbox knows of a run's course."""

    def written(pattern: str) -> float:
        return max(p.stat().st_mtime for p in experiment.glob(pattern))

    def accepted(phase: str) -> dict[str, Any]:
        (file,) = experiment.glob(f"runs/*/{phase}.accepted.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    train, learned = accepted("train"), accepted("train")["summary"]["wall_s"]
    at = {
        "experiment is in the store": written("experiment.json"),
        "machine is rented": written("leases/*/rented.json"),
        "train begins": train["started_at"],
        f"train ends (model.learn {learned:.1f} s)": train["ended_at"],
        "evaluate ends": accepted("evaluate")["ended_at"],
        "store ends": accepted("store")["ended_at"],
        "machine is gone": written("leases/*/gone.json"),
        "the command ends": ended,
    }
    return {what: when - began for what, when in at.items()}


def report_seconds(folder: Path, name: str) -> float:
    """Building the report in a process of its own, imports included."""
    return common.timed([sys.executable, "-c", BUILD, name], folder).seconds


def running_server(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    server = subprocess.Popen(
        [str(common.BIN / "python"), "-m", "prefect", "server", "start", "--port", str(port)],
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)
            return server, url
        except OSError:
            time.sleep(0.2)
    raise SystemExit("prefect server did not start")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    plain: list[float] = []
    learn: list[float] = []
    ours: dict[str, list[float]] = {"embedded server": [], "running server": []}
    last: dict[str, Moments] = {}
    reports: list[float] = []
    used: dict[str, Memory] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = {"PREFECT_HOME": str(folder / "prefect"), "HOME": str(folder)}
        first, _ = pipeline(folder, "first", **home)
        server, url = running_server(folder / "server")
        try:
            pipeline(folder, "warm", **home, PREFECT_API_URL=url)  # its database is empty, too
            for n in range(rounds):
                with Memory(server.pid) as memory:
                    bare = common.plain(folder, STEPS, EVERY)
                used["plain script"] = memory
                plain.append(bare.seconds)
                learn.append(json.loads(bare.output.splitlines()[-1])["learn_s"])
                for label, env in (
                    ("embedded server", home),
                    ("running server", {**home, "PREFECT_API_URL": url}),
                ):
                    name = f"{label.split()[0]}-{n}"
                    with Memory(server.pid) as memory:
                        seconds, last[label] = pipeline(folder, name, **env)
                    used[label] = memory
                    ours[label].append(seconds)
                reports.append(report_seconds(folder, name))
        finally:
            server.terminate()
            server.wait()
    base = statistics.median(plain)
    rows = [("plain script", f"{base:6.1f} s   {_all(plain)}   model.learn {_all(learn)}")]
    for label, seconds_of in ours.items():
        middle = statistics.median(seconds_of)
        text = f"{middle:6.1f} s   minus plain {middle - base:5.1f} s"
        rows.append((label, f"{text}   {_all(seconds_of)}"))
    rows.append(("first run on a machine", f"{first:6.1f} s   minus plain {first - base:5.1f} s"))
    rows.append(("building the report, apart", f"{statistics.median(reports):6.1f} s"))
    for label, memory in used.items():
        text = f"{memory.process:6.0f} MiB, all processes {memory.together:.0f} MiB"
        rows.append((f"largest process, {label}", text))
    common.table(f"PPO on cstr, {STEPS} steps, 1 thread, {rounds} rounds", rows)
    for label, found in last.items():
        common.table(
            f"{label}: the last run, seconds since the command began",
            [(what, f"{when:6.2f}") for what, when in found.items()],
        )


def _all(found: list[float]) -> str:
    return " ".join(f"{s:.1f}" for s in found)


if __name__ == "__main__":
    main()
