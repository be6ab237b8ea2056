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
    """Import what PyTorch imports with the first optimiser, without the folder that it makes.

    It makes one for compiled code, ``torchinductor_<user>``, in the temporary folder; nothing is
    compiled here, and it would stay there empty.
    """
    with restored(_COMPILED):
        os.environ.setdefault(_COMPILED, tempfile.gettempdir())
        import torch._dynamo  # noqa: F401


def mixed(kind: type) -> type:
    """An algorithm whose updates compute in bfloat16 what bears it; its weights stay float32.

    Bfloat16 has the exponents of float32, so that losses need no scaling. PyTorch would keep a
    weight's short copy for the whole update, and an update has several steps of the optimiser.

    Args:
        kind: A class of Stable-Baselines3's.
    """

    class Mixed(kind):  # type: ignore[misc]
        mixed = True

        def train(self, *args: Any, **kwargs: Any) -> None:
            """As ever, under autocast."""
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
                super().train(*args, **kwargs)

    Mixed.__name__, Mixed.__qualname__ = kind.__name__, kind.__qualname__
    return Mixed


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only operations that give the same twice; what has none of these raises an error.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html

    Args:
        wanted: False: nothing is changed.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # read when CUDA is begun in this process
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
