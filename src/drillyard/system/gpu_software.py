"""NVIDIA's driver of this machine, and the CUDA that torch and JAX were built for.

Nothing here imports torch or JAX: that takes seconds, and their own messages name one number.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from drillyard.system.operating_system import NVIDIA, cuda_of_the_library

OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Major version of CUDA -> the oldest driver that runs it, by its first number.

Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, read
2026-11-26.
"""
_BUILD = re.compile(r"^cuda\b[^=\n]*=\s*(?:'([\d.]+)'|None)", re.MULTILINE)
_VERSION = re.compile(r"^__version__\s*=\s*'([^']+)'", re.MULTILINE)
_TOO_OLD = re.compile(r"NVIDIA driver on your system is too old \(found version (\d+)\)")
"""torch's own words: c10/cuda/CUDAFunctions.cpp, ``device_count_impl``, torch 1.5 to 2.13."""
HINT = (
    "an image whose torch is built for this driver (the guide has a table: Hardware, Drivers), "
    "another driver, or resources.gpus: 0 and resources.device: auto"
)
_ANSWER_S = 5.0


def driver() -> str | None:
    """Returns the version of the driver, ``580.126.09``; None if none is loaded."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_ANSWER_S
            )
            return str(re.findall(r"^\d+(?:\.\d+)+$", done.stdout, re.MULTILINE)[0])
        except (OSError, subprocess.SubprocessError, IndexError):
            pass
    text = NVIDIA.read_text("utf-8") if NVIDIA.exists() else ""
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", text)
    return match[1] if match else None


def torch_build() -> tuple[str, str] | None:
    """Returns the version of torch and its CUDA, ``("2.13.0", "13.0")``; None without torch.

    The CUDA is empty for a build without it.
    """
    found = find_spec("torch")
    path = Path(found.origin or "").with_name("version.py") if found else None
    if path is None or not path.exists():
        return None
    text = path.read_text("utf-8")
    version, cuda = _VERSION.search(text), _BUILD.search(text)
    return (version[1], cuda[1] or "") if version and cuda else None


def jax_plugins() -> list[str]:
    """Returns the CUDA plugins of JAX that are installed: ``cuda12``, ``cuda13``."""
    return [f"cuda{n}" for n in OLDEST_DRIVER if find_spec(f"jax_cuda{n}_plugin") is not None]


def installed(gpus: int) -> dict[str, str]:
    """Returns what this machine has: Python, processor, builds of torch and JAX, and the driver.

    Args:
        gpus: Number of GPUs that it should have; 0: the driver is not looked for.
    """
    build = torch_build()
    version, cuda = build or ("", "")
    known = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": f"{version} for {f'CUDA {cuda}' if cuda else 'CPUs'}" if build else "",
        "jax": " ".join(jax_plugins()),
        "driver": (driver() or "none") if gpus else "",
    }
    return {name: value for name, value in known.items() if value}


def needed_driver(cuda: str) -> int | None:
    """Returns the oldest driver for a version of CUDA, ``13.0``; None if it is not known."""
    return OLDEST_DRIVER.get(int(cuda.partition(".")[0]))


def too_old(text: str) -> str | None:
    """Returns in one sentence what torch says of a driver that is too old; None for other texts.

    torch names the newest CUDA of the driver alone, ``12020`` for 12.2.

    Args:
        text: The message of an exception, or the last lines of a program.
    """
    found = _TOO_OLD.search(text)
    if found is None:
        return None
    runs = f"runs CUDA up to {int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}"
    here, build = driver(), torch_build()
    loaded = f"NVIDIA driver {here}" if here else "the NVIDIA driver"
    if build is None or not build[1]:
        return f"{loaded} {runs}, and torch is built for a newer one"
    needed = needed_driver(build[1])
    return f"{loaded} {runs}, and torch {build[0]} is built for CUDA {build[1]}" + (
        f", which needs driver {needed} or newer" if needed else ""
    )


def misfit(jax: bool) -> str | None:
    """Returns why this machine's driver and packages do not fit; None if they may.

    Args:
        jax: Whether the learner computes with JAX, which needs a plugin for GPUs.
    """
    here, build = driver(), torch_build()
    loaded = f"NVIDIA driver {here}" if here else "no NVIDIA driver"
    packages = [(f"torch {build[0]}", build[1])] if build else []
    if jax:
        packages += [
            ("the plugin of JAX", plugin.removeprefix("cuda")) for plugin in jax_plugins()
        ]
        if not jax_plugins():
            return f"{loaded}, and JAX has no CUDA plugin"
    for name, cuda in packages:
        if not cuda:
            return f"{loaded}, and {name} is built without CUDA"
        needed = needed_driver(cuda)
        old = here is not None and needed is not None and int(here.partition(".")[0]) < needed
        if old and cuda_of_the_library() < int(cuda.partition(".")[0]):
            return (
                f"{loaded}, and {name} is built for CUDA {cuda}, which needs driver {needed} "
                "or newer"
            )
    return None
