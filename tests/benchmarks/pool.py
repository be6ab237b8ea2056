"""Seconds from "run" in Prefect to the first training step, on a pool that rents on this machine.

``python -m tests.benchmarks.pool``: prints each repetition and the median.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from drillyard_flows import server
from tests.flows.conftest import Api
from tests.helpers.patience import until
from tests.helpers.pools import Pool

REPEATS = 3
FLOW = """
import pathlib
import time

from prefect import flow


@flow
def foreign(mark):
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    class First(BaseCallback):
        def _on_step(self):
            pathlib.Path(mark).write_text(str(time.time()))
            return False  # one step is enough

    PPO("MlpPolicy", "CartPole-v1", device="cpu").learn(1000, callback=First())
"""


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        running = server.acquire()
        running.wait()
        pool = Pool(Api(running.api_url), Path(folder), "measured")
        pool.environment = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # as of `drillyard up`
        pool.make()
        pool.deploy(FLOW)
        times = []
        with pool.worker():
            until(lambda: "started" in pool.log(), what="the worker")
            for _ in range(REPEATS):
                mark = Path(folder, "mark")
                began = time.time()
                run = pool.start(mark=str(mark))
                found = pool.ended(run)
                assert found["state"]["type"] == "COMPLETED", pool.log()
                times.append(float(mark.read_text()) - began)
                print(f"{times[-1]:.1f} s to the first training step", flush=True)
                pool.settled()
        print(f"median {statistics.median(times):.1f} s, target: under 20 s")
        running.release()


if __name__ == "__main__":
    main()
