"""Which GPUs of this machine each worker of a local cluster sees."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def visible() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip()]
    return [str(n) for n, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def shares(workers: Iterable[str], each: int) -> dict[str, dict[str, str]]:
    """Deal the GPUs out, in turn where there are fewer than asked for.

    Args:
        workers: Names of the workers: the numbers that a local cluster gives them.
        each: GPUs of one.

    Returns:
        Name -> variables of its agent; nothing where no GPU is asked for or known.
    """
    devices = visible()
    if not each or not devices:
        return {}
    return {
        name: {
            "CUDA_VISIBLE_DEVICES": ",".join(
                dict.fromkeys(devices[(int(name) * each + n) % len(devices)] for n in range(each))
            )
        }
        for name in workers
        if name.isdigit()
    }
