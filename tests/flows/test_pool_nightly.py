"""A hundred flow runs on one pool, with kill -9 of worker, flow and machine: none is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.flows.conftest import ENDED, Bench, lease_processes
from tests.helpers.patience import until
from tests.helpers.pools import Pool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]
RUNS = int(os.environ.get("DRILLYARD_POOL_RUNS", "100"))
AT_ONCE = 4
WORKER_EVERY = 15
"""The worker is killed each time that so many more flow runs have ended."""
HOUR_S = 3600.0


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def expected(number: int) -> str:
    """What becomes of a flow run: most do their work, and some are killed or cancelled."""
    return {3: "flow", 5: "machine", 7: "cancel"}.get(number % 10, "work")


def test_none_is_lost_and_nothing_is_left(api, tmp_path):
    pool = Pool(api, tmp_path, "hundred")
    pool.make(limit=AT_ONCE)
    pool.deploy()
    gate = tmp_path / "gate"
    runs: dict[str, tuple[str, Path]] = {}
    for number in range(RUNS):
        mark, what = tmp_path / f"mark-{number}", expected(number)
        waits = str(gate) if what != "work" else None
        runs[pool.start(mark=str(mark), gate=waits)] = (what, mark)
    done: set[str] = set()

    def look() -> dict[str, str]:
        body = {"flow_runs": {"id": {"any_": [*runs]}}, "limit": 200}
        states = {r["id"]: r["state"]["type"] for r in api.post("/flow_runs/filter", body)}
        for run in set(runs) - done:
            what, mark = runs[run]
            if what == "work" or not mark.exists() or not mark.read_text():
                continue
            done.add(run)
            if what == "flow":
                kill([int(mark.read_text().split()[0])])
            elif what == "machine":
                (lease,) = (p.name for p in pool.store.glob(f"flow-{run}/leases/*") if p.is_dir())
                kill(lease_processes(lease))
            else:
                api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        return states

    workers, ended = 0, 0
    try:
        while ended < RUNS:
            workers += 1
            with pool.worker(f"worker-{workers}"):  # killed at the end of this block
                aim = min(RUNS, ended + WORKER_EVERY)
                ended = until(
                    lambda aim=aim: (n := sum(s in ENDED for s in look().values())) >= aim and n,
                    timeout_s=HOUR_S,
                    what=f"{aim} flow runs",
                    every_s=1.0,
                )
        with pool.worker("last"):
            assert len(pool.settled()) == RUNS
        states = look()
        table = Counter((what, states[run]) for run, (what, _) in runs.items())
        print(f"{RUNS} flow runs, {workers} workers killed: {dict(table)}")
        assert table.keys() <= {
            ("work", "COMPLETED"),
            ("flow", "CRASHED"),
            ("machine", "CRASHED"),
            ("cancel", "CANCELLED"),
        }
        assert len(pool.leases()) == RUNS and all(pool.leases().values())  # each was rented once
        assert not any(lease_processes(lease) for lease in pool.leases())
    finally:
        for folder in pool.store.glob("flow-*"):
            Bench(tmp_path).give_back(folder.name)
