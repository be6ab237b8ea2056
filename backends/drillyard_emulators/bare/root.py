"""The disk of a bare machine: a root filesystem of Debian, built once and kept for the user."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

from filelock import FileLock

from drillyard.errors import InfrastructureError

TOOLS = ("mmdebstrap", "unshare", "nsenter", "ip", "mkfs.ext4", "openssl", "pivot_root")
# libfaketime does nothing until a machine is given another clock.
_BASE = ("ca-certificates", "curl", "libfaketime", "openssl")
_BUILD_S = 900.0
_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a root filesystem consists of.

    Attributes:
        suite: Release of Debian.
        packages: Debian's packages, beside the smallest system that can reach a server.
        steps: Commands that then run in it, as root, with the host's network.
    """

    suite: str = "bookworm"
    packages: tuple[str, ...] = ("python3",)
    steps: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the folder of what this recipe builds."""
        return hashlib.sha256(repr((astuple(self), _BASE)).encode()).hexdigest()[:16]


def cache() -> Path:
    """Returns the user's folder for what bare machines need."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "drillyard" / "machines"


def unable() -> str:
    """Returns why this host cannot run bare machines; nothing if it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "they need root"
    if sys.version_info[:2] != _PYTHON:
        return "they need Python 3.11 here, as Debian 12 has it: wheels are made for one version"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"they need {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    return tried.stderr.strip()


def root_of(recipe: Recipe, cache: Path) -> Path:
    """Returns the folder with a root filesystem, which is built if it is not there yet.

    Args:
        recipe: What it consists of.
        cache: The user's folder for all of them.

    Raises:
        InfrastructureError: It cannot be built.
    """
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / recipe.key
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            unfinished = place.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            _build(recipe, unfinished)
            unfinished.rename(place)
    return place


def _build(recipe: Recipe, folder: Path) -> None:
    hooks = [f"--customize-hook=chroot \"$1\" sh -ec '{step}'" for step in recipe.steps]
    include = ",".join((*_BASE, *recipe.packages))
    options = ["--quiet", "--mode=root", "--variant=minbase", f"--include={include}", *hooks]
    # Without a source of its own it copies every source of the host, and fails where one is away.
    source = f"deb {_mirror()} {recipe.suite} main"
    done = subprocess.run(
        ["mmdebstrap", *options, recipe.suite, str(folder), source],
        check=False,
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
    )
    if done.returncode != 0:
        raise InfrastructureError(
            f"the disk of a bare machine cannot be built: {done.stderr.strip()[-1500:]}",
            hint="look whether apt-get update works on this host",
        )


def _mirror() -> str:
    """The mirror that this host's own packages come from, or Debian's."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"],
        check=False,
        capture_output=True,
        text=True,
    )
    return next(iter(listed.stdout.split()), "http://deb.debian.org/debian")
