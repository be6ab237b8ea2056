"""Assigns GPUs of this machine to the workers of a local cluster."""

from __future__ import annotations

import os

from drillyard.worker.machine_share import gpus, variables, visible_gpus

EACH = "DRILLYARD_DASK_GPUS"
"""Environment variable of the workers of a local cluster: the number of GPUs of each.

Each Dask worker finds its own GPUs by it, whoever starts its agent: the program that holds the
cluster, or a task that arrives before that on a worker that was started again.
"""


def share(worker: str) -> dict[str, str]:
    """Assigns GPUs to this Dask worker; workers share them if there are too few.

    Args:
        worker: Name of the worker: the number that a local cluster gives it.

    Returns:
        Environment variables of its agent; empty if no GPU is requested or known.
    """
    each = int(os.environ.get(EACH, "0"))
    devices = visible_gpus()
    if not each or not devices or not worker.isdigit():
        return {}
    return variables(range(0), gpus(devices, int(worker), each))
