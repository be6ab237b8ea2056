"""Assigns GPUs of this machine to the workers of a local cluster."""

from __future__ import annotations

from collections.abc import Iterable

from drillyard.worker.machine_share import gpus, variables, visible_gpus


def shares(workers: Iterable[str], each: int) -> dict[str, dict[str, str]]:
    """Assigns the GPUs to workers, in turn if there are too few.

    Args:
        workers: Names of the workers: the numbers that a local cluster gives them.
        each: Number of GPUs of one worker.

    Returns:
        Name -> environment variables of its agent; empty if no GPU is requested or known.
    """
    devices = visible_gpus()
    if not each or not devices:
        return {}
    return {
        name: variables(range(0), gpus(devices, int(name), each))
        for name in workers
        if name.isdigit()
    }
