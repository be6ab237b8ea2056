"""FMUs for tests: small models in C, compiled and packed when a test asks for them."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ENDING = ".so"
_IDENTIFIER = "tank"


def headers() -> Path:
    """Folder of FMI's headers, which FMPy brings."""
    import fmpy

    return Path(fmpy.__file__).parent / "c-code"


def compiled(folder: Path, source: str, *macros: str) -> Path:
    """Compiles a model with macros such as ``CRASHES_AT=3``; the shared library."""
    library = folder / f"{source}{'-'.join(('', *macros)).replace('=', '')}{ENDING}"
    if not library.exists():
        subprocess.run(
            f"gcc -shared -fPIC -O1 -I{headers()} {' '.join(f'-D{m}' for m in macros)} "
            f"{HERE / source}.c -o {library} -lm",
            shell=True,
            check=True,
        )
    return library


def write_fmu(
    path: Path,
    *macros: str,
    source: str = "tank2",
    state: bool = True,
    kinds: tuple[str, ...] = ("CoSimulation",),
    files: dict[str, str | bytes] | None = None,
    change: tuple[str, str] = ("", ""),
    binary: bool = True,
    once: bool = False,
) -> Path:
    """Writes an FMU.

    Args:
        path: Where; the library is kept beside it for other FMUs.
        macros: How the model misbehaves, see its source.
        source: ``tank2`` or ``tank3``.
        state: Whether the description offers a serialised state.
        kinds: ``CoSimulation``, ``ModelExchange``.
        files: More files, or others of the same names.
        change: A text of the description, and what replaces it.
        binary: False: the sources instead of the binary.
        once: Whether a process may have only one instance.
    """
    three = source == "tank3"
    able = "FMUState" if three else "FMUstate"
    flags = f'canGetAndSet{able}="true" canSerialize{able}="true"' if state else ""
    flags += ' canBeInstantiatedOnlyOncePerProcess="true"' if once else ""
    sources = f'<SourceFiles><File name="{source}.c"/></SourceFiles>' if not three else ""
    events = {"CoSimulation": 'hasEventMode="true"'} if three else {}
    parts = "".join(
        f'<{kind} modelIdentifier="{_IDENTIFIER}" {flags} {events.get(kind, "")}>'
        f"{sources}</{kind}>"
        for kind in sorted(kinds, reverse=True)
    )
    description = (HERE / f"{source}.xml").read_text().replace("<!-- KINDS -->", parts)
    content: dict[str, str | bytes] = {"modelDescription.xml": description.replace(*change)}
    if binary:
        folder = "x86_64-linux" if three else "linux64"
        library = compiled(path.parent, source, *macros)
        content[f"binaries/{folder}/{_IDENTIFIER}{ENDING}"] = library.read_bytes()
    else:
        content[f"sources/{source}.c"] = (HERE / f"{source}.c").read_text()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **(files or {})}.items():
            archive.writestr(name, data)
    return path
