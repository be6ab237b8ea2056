"""Ray for one training alone: on this machine, or over all machines of its job."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from drillyard.errors import WorkerLost
from drillyard.learners.rllib.machines import HEAD, MACHINES, OBJECTS_BYTES
from drillyard.runs.phases import RunContext
from drillyard.system.scratch import short_folder

COMING_S = 900.0
"""The machines of a job start together; each of them may install packages first."""
_PORT = "RAY_GCS_SERVER_PORT"
_LOOK_S = 0.5


@contextmanager
def cluster(context: RunContext) -> Iterator[int]:
    """Ray, gone with this process, however that ends.

    Args:
        context: The run.

    Yields:
        How many machines it has. Each of them has one share of the workers (in Ray's words: one
        CPU), so that they are spread evenly, whatever cores there are.

    Raises:
        WorkerLost: Not all machines of the job came.
        Stopped: A stop was asked for meanwhile.
    """
    host, _, port = os.environ.get(HEAD, "127.0.0.1:0").rpartition(":")
    machines = int(os.environ.get(MACHINES, "1"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ[_PORT] = port
    # Not in the attempt's own folder: paths of its sockets may have 107 characters only.
    with short_folder("ray") as folder:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=OBJECTS_BYTES,
            _temp_dir=str(folder),
            _node_ip_address=host,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
        try:
            _wait(context, machines)
            yield machines
        finally:
            ray.shutdown()


def share(workers: int, machines: int) -> float:
    """What a worker takes of a machine, so that all find room: 1 over those of the fullest one.

    Args:
        workers: In all.
        machines: That they are spread over.
    """
    most = -(-workers // machines)
    return math.floor(10_000 / most) / 10_000  # Ray counts ten-thousandths


def placed(algo: Any) -> dict[str, int]:
    """Ray's id of each machine -> workers that play there now.

    Args:
        algo: Of RLlib.
    """
    found = algo.env_runner_group.foreach_env_runner(
        lambda _: ray.get_runtime_context().get_node_id(), local_env_runner=False
    )
    return dict(Counter(found))


def _wait(context: RunContext, machines: int) -> None:
    deadline = context.clock.monotonic() + COMING_S
    while (there := sum(bool(node["Alive"]) for node in ray.nodes())) < machines:
        context.stop.check()
        if context.clock.monotonic() > deadline:
            raise WorkerLost(
                f"{there} of {machines} machines of this job came within {COMING_S / 60:.0f} "
                "minutes",
                hint="`drillyard logs` shows what the others said; do they reach each other?",
            )
        time.sleep(_LOOK_S)
