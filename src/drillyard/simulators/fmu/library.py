"""The shared library of an FMU for this machine: in the archive, or compiled from sources."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from drillyard.simulators.fmu.archive import refused
from drillyard.simulators.fmu.description import Kind, Model
from drillyard.system.home import local_home

COMPILE_S = 600.0
"""Longest compilation, in seconds."""


def offered(model: Model) -> list[str]:
    """The platforms for which an FMU has binaries."""
    parts = [name.split("/") for name in model.names]
    return sorted({p[1] for p in parts if len(p) == 3 and p[0] == "binaries" and p[2]})


def inside(model: Model, kind: Kind) -> str | None:
    """The name of the library for this machine in the archive."""
    import fmpy

    file = model.interface(kind).modelIdentifier + fmpy.sharedLibraryExtension
    names = [f"binaries/{folder}/{file}" for folder in (fmpy.platform, fmpy.platform_tuple)]
    return next((name for name in names if name in model.names), None)


def check_platform(model: Model, kind: Kind) -> None:
    """Refuses an FMU that has neither a binary for this machine nor sources that can be compiled.

    Raises:
        SimulatorError: It names what there is, and what this machine needs.
    """
    import fmpy

    if inside(model, kind) is not None:
        return
    has = ", ".join(offered(model)) or "none"
    lacking = f"has no binary for this system ({fmpy.platform}); it has: {has}"
    if not model.fmi.buildConfigurations:
        raise refused(
            model.path,
            lacking,
            f"export it again on {fmpy.platform} or with its sources, or run on a machine with "
            f"{has}",
        )
    if shutil.which("cc") is None:
        raise refused(
            model.path,
            f"{lacking}, and no C compiler for its sources is on PATH",
            "install one (package gcc), or export the model with a binary",
        )


def library(model: Model, kind: Kind, folder: Path) -> Path:
    """The library of an extracted FMU; compiled once for each machine.

    Args:
        model: A checked FMU.
        kind: How it is used.
        folder: Where it was extracted.

    Raises:
        SimulatorError: There is none, or the sources cannot be compiled.
    """
    check_platform(model, kind)
    name = inside(model, kind)
    if name is not None:
        return folder / name
    import fmpy

    identifier = model.interface(kind).modelIdentifier
    file = identifier + fmpy.sharedLibraryExtension
    # FMPy expects it there.
    place = fmpy.platform_tuple if model.version == 3 else fmpy.platform
    target = folder / "binaries" / place / file
    target.parent.mkdir(parents=True, exist_ok=True)
    kept: Path = local_home() / "fmu" / model.sha256 / f"{fmpy.platform_tuple}-{file}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            new = Path(work) / file
            _compile(model, identifier, folder / "sources", new)
            new.replace(kept)
    shutil.copy(kept, target)
    return Path(target)


def _compile(model: Model, identifier: str, sources: Path, library_path: Path) -> None:
    import fmpy

    configurations = model.fmi.buildConfigurations
    chosen = next(
        (c for c in configurations if c.modelIdentifier == identifier), configurations[0]
    )
    sets = chosen.sourceFileSets
    files = [str(sources / file) for part in sets for file in part.sourceFiles]
    defined = [
        f"-D{d.name}" + (f"={d.value}" if d.value else "")
        for part in sets
        for d in part.preprocessorDefinitions
    ]
    folders = [str(sources / place) for part in sets for place in part.includeDirectories]
    headers = Path(fmpy.__file__).parent / "c-code"
    compiler = "c++" if any((part.language or "").startswith("C++") for part in sets) else "cc"
    command = [compiler, "-shared", "-fPIC", "-O2", *defined]
    command += [f"-I{place}" for place in (sources, headers, *folders)]
    command += [*files, "-o", str(library_path), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_S)
    except (OSError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip()[-500:]
        raise refused(
            model.path,
            f"its sources cannot be compiled here: {words}",
            "export the model with a binary for this system",
        ) from error
