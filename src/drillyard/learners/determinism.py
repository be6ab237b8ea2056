"""How tensors are computed: ``resources.precision`` and ``resources.deterministic``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from drillyard.system.environment import restored

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_COMPILED = "TORCHINDUCTOR_CACHE_DIR"


def import_compiler() -> None:
    """Import what PyTorch imports with the first optimiser, but do not create its folder.

    PyTorch creates ``torchinductor_<user>`` for compiled code in the temporary folder. Nothing is
    compiled here, so the folder would remain empty.
    """
    with restored(_COMPILED):
        os.environ.setdefault(_COMPILED, tempfile.gettempdir())
        import torch._dynamo  # noqa: F401


def mixed(kind: type) -> type:
    """Derives an algorithm with updates in mixed precision: bfloat16 where possible.

    The weights remain float32. Bfloat16 has the exponents of float32, so losses need no scaling.
    There is no cache: PyTorch would keep the short copy of a weight for the whole update, and an
    update has several steps of the optimiser.

    Args:
        kind: A class of Stable-Baselines3.
    """

    class Mixed(kind):  # type: ignore[misc]
        mixed = True

        def train(self, *args: Any, **kwargs: Any) -> None:
            """Train under autocast."""
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
                super().train(*args, **kwargs)

    Mixed.__name__, Mixed.__qualname__ = kind.__name__, kind.__qualname__
    return Mixed


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Allow only deterministic operations; an operation without a deterministic form raises.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html

    Args:
        enabled: False to change nothing.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # read when CUDA starts in this process
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
