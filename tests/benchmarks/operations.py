"""Prefect's side of a run: how soon it begins, how soon people are told, many at once, streaming.

    python -m tests.benchmarks.operations started    # a run asked for -> its first step
    python -m tests.benchmarks.operations many       # 50 flow runs at once
    python -m tests.benchmarks.operations many 10    # the same, 10 of them at work at a time
    python -m tests.benchmarks.operations streaming  # CPU time of logs, progress; a line in 10 s
    python -m tests.benchmarks.operations streaming 1  # the same, a line a second

Servers and the worker of the first two are those of ``drillyard up``. For ``many`` on PostgreSQL,
set ``PREFECT_API_DATABASE_CONNECTION_URL``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.flows.conftest import ENDED, Bench
from tests.helpers.patience import until
from tests.helpers.yard import Yard, yard

from . import common

MANY = 50
WINDOW_S, WINDOWS = 20.0, 10
"""Of ``streaming``: the shortest in which progress is told as often as in any other."""
IN_TURNS = """
import os, sys
from drillyard_tasks.publisher import Publisher
off = sys.argv.pop(1)

def in_turns(tell):
    return lambda *words: None if os.path.exists(off) else tell(*words)

Publisher._send_logs = staticmethod(in_turns(Publisher._send_logs))
Publisher._publish = staticmethod(in_turns(Publisher._publish))
from drillyard.cli.start import main
sys.argv[0] = "drillyard"
main()
"""
"""``drillyard`` that tells Prefect no line and no progress while a file is there."""


def started(folder: Path) -> None:
    """Asked for through the API, as the form does it."""
    with yard(folder) as team:
        begun, told = [], []
        for number in range(4):
            file = team.bench.write(f"r{number}", train={"steps": 4096, "checkpoint_every": 64})
            asked = time.time()
            run = team.start(file)
            until(lambda n=number: team.bench.board_step(f"r{n}") > 0)  # type: ignore[misc]
            begun.append(time.time() - asked)
            team.ended(run)
            run = team.start("nowhere.yaml", name=f"wrong{number}")
            ended = team.ended(run)["state"]["timestamp"]
            alert = team.alert(f"wrong{number} Failed")
            at = team.hook.told_at[team.hook.told.index(alert)]
            told.append(at - datetime.fromisoformat(ended).timestamp())
    common.table(
        "local process worker, 1 warm-up and 3 rounds",
        [
            ("asked for -> first training step (board)", spread(begun[1:])),
            ("flow run failed -> the webhook was told", spread(told[1:])),
        ],
    )


def many(folder: Path, limit: int = MANY) -> None:
    """All are asked for at once; so many of them are at work at a time."""
    with yard(folder) as team:
        team.api.patch("/work_pools/drillyard-local", {"concurrency_limit": limit})
        began = time.time()
        runs = {}
        for number in range(MANY):
            name = f"many{number:02d}"
            file = team.bench.folder / f"{name}.json"
            file.write_text(
                json.dumps(
                    {
                        "schema": 1,
                        "name": name,
                        "workload": "mock",
                        "seeds": [1],
                        "mock": {"metrics": ["score"]},
                        "tracking": {"mlflow": None},
                    }
                )
            )
            runs[team.start(file)] = name
        asked = time.time()
        most = 0

        def over() -> bool:
            nonlocal most
            now = states_of(team, list(runs))
            most = max(most, now["RUNNING"])
            print(f"{time.time() - asked:.0f} s: {dict(now)}", flush=True)
            return not now.keys() - ENDED

        until(over, 3600, "the end of all", every_s=5.0)
        took = time.time() - asked
        states = states_of(team, list(runs))
        stored = sum(
            (team.bench.store / name / "runs/t0001-s1/store.accepted.json").is_file()
            for name in runs.values()
        )
        left = sum(not gone for n in runs.values() for gone in team.bench.leases(n).values())
    common.table(
        f"{MANY} flow runs asked for at once, one server on PostgreSQL, one worker",
        [
            ("final states", str(dict(states))),
            ("results stored", f"{stored} of {MANY}"),
            ("leases that are not gone", str(left)),
            ("most of them at work at once", f"{most}, allowed {limit}"),
            ("to ask for them", f"{asked - began:.0f} s"),
            ("and until all had ended", f"{took:.0f} s"),
        ],
    )


def states_of(team: Yard, runs: list[str]) -> Counter[str]:
    asked = {"flow_runs": {"id": {"any_": runs}}, "limit": MANY}
    return Counter(one["state"]["type"] for one in team.api.post("/flow_runs/filter", asked))


def streaming(folder: Path, every_s: int = 10) -> None:
    """CPU time of the command and of Prefect's server, with and without, in turns of one run.

    What is printed while nothing is told is told in the next turn, which therefore bears twice
    the lines. The first two turns bear the flow's beginning and do not count.

    Args:
        folder: Of its own.
        every_s: Seconds between two lines that the simulator prints.
    """
    folder.mkdir()
    bench = Bench(folder)
    # Slow, so that the training itself computes next to nothing.
    world = {"id": "world:Slow", "args": {"step_s": 0.02, "talk": 50 * every_s}}
    file = bench.write(
        "talk", simulator=world, train={"steps": 10_000_000, "checkpoint_every": 1_000_000}
    )
    off, home = folder / "off", folder / "home"
    command = [sys.executable, "-c", IN_TURNS, str(off), *bench.command("run", file)[1:]]
    environ = {**os.environ, "PREFECT_HOME": str(home)}
    environ.pop("PREFECT_API_URL", None)
    child = subprocess.Popen(command, cwd=folder, env=environ)
    used: dict[str, list[float]] = {"without": [], "with": []}
    try:
        until(lambda: bench.board_step("talk") > 100 or child.poll() is not None, what="steps")
        server = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
        both = (server, psutil.Process(child.pid))
        for number in range(WINDOWS):
            side = "with" if number % 2 else "without"
            if number % 2:
                off.unlink()
            else:
                off.touch()
            before = sum(own_s(one) for one in both)
            time.sleep(WINDOW_S)
            if number > 1:
                used[side].append(sum(own_s(one) for one in both) - before)
    finally:
        off.unlink(missing_ok=True)
        child.terminate()
        child.wait()
        bench.run("cancel", "talk")
    extra = statistics.mean(used["with"]) - statistics.mean(used["without"])
    title = f"CPU time of command and server in turns of {WINDOW_S:g} s, a line in {every_s} s"
    common.table(
        title,
        [
            *((side, spread(found)) for side, found in used.items()),
            ("difference of training time", f"{100 * extra / WINDOW_S:.2f} %"),
        ],
    )


def own_s(process: psutil.Process) -> float:
    """CPU seconds of a process, without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


def spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} s ({', '.join(f'{one:.2f}' for one in found)})"


def main(words: list[str]) -> None:
    what: dict[str, Any] = {"started": started, "many": many, "streaming": streaming}
    with tempfile.TemporaryDirectory() as name:
        what[words[0]](Path(name) / "yard", *map(int, words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
