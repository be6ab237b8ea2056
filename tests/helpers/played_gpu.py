"""A GPU that is played, for processes of machines that have none.

``nvidia-smi`` answers with a driver, and ``torch`` is the installed one with another CUDA in its
``version.py``. With a driver that is too old it raises its own sentence; else it says that it
finds one GPU, and puts on the CPU what is meant for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.helpers import rules

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to "
    "install a PyTorch version that has been compiled with your version of the CUDA driver."
)
"""``device_count_impl`` in c10/cuda/CUDAFunctions.cpp of https://github.com/pytorch/pytorch."""
_TORCH = """
import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_FOLDERS = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(_HERE)]
_SPEC = importlib.machinery.PathFinder.find_spec("torch", _FOLDERS)
torch = importlib.util.module_from_spec(_SPEC)
sys.modules["torch"] = torch
_SPEC.loader.exec_module(torch)
_SPEC.origin = os.path.join(_HERE, "__init__.py")  # who asks for the build reads version.py there
_zeros = torch.zeros
OLD = {old!r}


def _init():
    if OLD:
        raise RuntimeError(OLD)


torch.cuda.is_available = lambda: not OLD
torch.cuda.device_count = lambda: 0 if OLD else 1
torch.cuda.init = torch.cuda._lazy_init = _init
torch.zeros = lambda *size, device=None, **more: _zeros(
    *size, device="cpu" if str(device).startswith("cuda") and not OLD else device, **more
)
"""


def played(folder: Path, driver: str = "580.126.09", cuda: str = "13.0") -> dict[str, str]:
    """Writes the two, and returns the variables of processes that find them.

    Args:
        folder: Where to.
        driver: Its version.
        cuda: What torch is built for; 13 refuses a driver before 580.
    """
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(parents=True)
    # Both questions: the number of GPUs (a line each), and the version of the driver.
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *driver_version*) echo {driver};; *) echo "NVIDIA L4";; esac\n'
    )
    program.chmod(0o755)
    torch = folder / "site" / "torch"
    torch.mkdir(parents=True)
    (torch / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = '{cuda}'\n")
    old = TOO_OLD if cuda.startswith("13") and int(driver.partition(".")[0]) < 580 else ""
    (torch / "__init__.py").write_text(_TORCH.replace("{old!r}", repr(old)))
    folders = [program.parent, Path(sys.prefix) / "bin", os.environ["PATH"]]
    return {
        "PATH": os.pathsep.join(map(str, folders)),
        "PYTHONPATH": rules.path(torch.parent),
    }
