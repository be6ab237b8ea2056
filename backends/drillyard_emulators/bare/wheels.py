"""A wheelhouse of the drillyard that runs here, in the versions that are installed here."""

from __future__ import annotations

import hashlib
import shutil
import sys
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from drillyard_backends.gcp.wheelhouse import EXTRAS, build
from drillyard_backends.wheel import pack


def wheelhouse(folder: Path, cache: Path, extras: str = EXTRAS) -> Path:
    """Fills a folder with wheels; those of others are built once and kept.

    Args:
        folder: An existing folder.
        cache: The user's folder for what bare machines need.
        extras: What else drillyard shall have, between commas.

    Raises:
        UserError: pip cannot get or build a wheel.
    """
    own = folder / f"drillyard-{metadata.version('drillyard')}-py3-none-any.whl"
    own.write_bytes(pack().data)
    for path in _others(own, cache, extras).glob("*.whl"):
        (folder / path.name).symlink_to(path)
    return folder


def _others(own: Path, cache: Path, extras: str) -> Path:
    # What follows a "+" names a build, which an index may have under another name.
    versions = sorted(
        f"{each.name}=={each.version.partition('+')[0]}"
        for each in metadata.distributions()
        if not each.name.startswith("drillyard")
    )
    needed = metadata.requires("drillyard") or []
    named = "\n".join([sys.version, own.name, extras, *needed, *versions])
    place = cache / f"wheels-{hashlib.sha256(named.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            unfinished = place.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            constraints = unfinished / "constraints.txt"
            constraints.write_text("\n".join(versions), encoding="utf-8")
            build(unfinished, str(own), extras, ["-c", str(constraints)])
            (unfinished / own.name).unlink()
            unfinished.rename(place)
    return place
