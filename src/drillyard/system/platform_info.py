"""The platform of results: versions, git, operating system, processor, cores, GPU."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from drillyard.system.operating_system import cpu_brand, usable_cores

_LIBRARIES = (
    "drillyard",
    "numpy",
    "torch",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "mlflow",
    "prefect",
    "pydantic",
    "scipy",
    "safetensors",
)
_TIMEOUT_S = 5.0


def versions() -> dict[str, str]:
    """Versions of Python and of installed libraries; imports none of them."""
    packages = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """(commit, has uncommitted changes) of the repository around a folder; (None, None) without.

    Args:
        folder: The user's folder.
    """
    folder = folder.resolve()
    if "GIT_DIR" not in os.environ and not any(
        (p / ".git").exists() for p in (folder, *folder.parents)
    ):
        return None, None  # as git would say, in a process of its own
    commit = _ask(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit is None:
        return None, None
    changes = _ask(["git", "-C", str(folder), "status", "--porcelain", "--", "."])
    return commit, None if changes is None else bool(changes)


class Platform(TypedDict):
    """The content of ``platform.json``.

    Attributes:
        os: Name and version of the operating system.
        machine: Architecture of the processor.
        cpu: Brand of the processor.
        cores: Number of usable logical cores.
        memory_bytes: Memory of the machine.
        gpus: Names of the GPUs, as the driver lists them.
        versions: Package -> installed version.
    """

    os: str
    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: list[str]
    versions: dict[str, str]


def platform_info() -> Platform:
    """Describes the platform of this process."""
    import psutil

    return {
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_brand(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": list(_gpus()),
        "versions": versions(),
    }


@functools.cache
def _gpus() -> tuple[str, ...]:
    # The driver's own tool: torch would have to be imported, and would create a CUDA context.
    listing = _ask(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return tuple(line.strip() for line in (listing or "").splitlines() if line.strip())


def _ask(command: list[str]) -> str | None:
    """The output of a program, or None if it is missing, fails or hangs."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
