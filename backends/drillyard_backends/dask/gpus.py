"""Which GPUs of this machine each worker of a local cluster sees."""

from __future__ import annotations

from collections.abc import Iterable

from drillyard.worker.machine_share import gpus, variables, visible_gpus


def shares(workers: Iterable[str], each: int) -> dict[str, dict[str, str]]:
    """Deal the GPUs out, in turn where there are fewer than asked for.

    Args:
        workers: Names of the workers: the numbers that a local cluster gives them.
        each: GPUs of one.

    Returns:
        Name -> variables of its agent; nothing where no GPU is asked for or known.
    """
    devices = visible_gpus()
    if not each or not devices:
        return {}
    return {
        name: variables(range(0), gpus(devices, int(name), each))
        for name in workers
        if name.isdigit()
    }
