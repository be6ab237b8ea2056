"""A Ray cluster for one training: on this machine, or over all machines of its job."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray

from drillyard.errors import WorkerLost
from drillyard.learners.rllib.machines import HEAD, MACHINES, OBJECTS_BYTES
from drillyard.runs.workload import RunContext
from drillyard.system.scratch import short_folder

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

COMING_S = 900.0
"""Seconds to wait for all machines: they start together, but may install packages first."""
_PORT = "RAY_GCS_SERVER_PORT"
_LOOK_S = 0.5


@contextmanager
def cluster(context: RunContext) -> Iterator[int]:
    """Start Ray, which ends with this process in every case.

    Args:
        context: The run.

    Yields:
        The number of machines. Each of them has one share of the workers (one CPU in Ray's terms),
        so that the workers are spread evenly, whatever the number of cores.

    Raises:
        WorkerLost: Not all machines of the job joined.
        Stopped: A stop was requested in the meantime.
    """
    host, _, port = os.environ.get(HEAD, "127.0.0.1:0").rpartition(":")
    machines = int(os.environ.get(MACHINES, "1"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ[_PORT] = port
    # Not in the attempt's folder: paths of Ray's sockets may have at most 107 characters.
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
    """The share of a machine for each worker: 1 / the workers of the fullest machine.

    Args:
        workers: Number of workers in all.
        machines: Number of machines.
    """
    most = -(-workers // machines)
    return math.floor(10_000 / most) / 10_000  # Ray counts ten-thousandths


def placed(algo: Algorithm) -> dict[str, int]:
    """Ray's id of each machine -> number of workers that play there now.

    Args:
        algo: RLlib's algorithm.
    """
    nodes = algo.env_runner_group.foreach_env_runner(
        lambda _: ray.get_runtime_context().get_node_id(), local_env_runner=False
    )
    return dict(Counter(nodes))


def _wait(context: RunContext, machines: int) -> None:
    deadline = context.clock.monotonic() + COMING_S
    while (joined := sum(bool(node["Alive"]) for node in ray.nodes())) < machines:
        context.stop.check()
        if context.clock.monotonic() > deadline:
            raise WorkerLost(
                f"{joined} of {machines} machines of this job joined within {COMING_S / 60:.0f} "
                "minutes",
                hint="`drillyard logs` shows the output of the others; check their network",
            )
        time.sleep(_LOOK_S)
