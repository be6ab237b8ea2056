"""What of an experiment's folder travels to the workers, and what is said about the rest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from drillyard.errors import ConfigError
from drillyard.findings import Finding, passed, warning
from drillyard.mailbox import Mailbox
from drillyard.runs.code_archive import BY_ENDING, MAX_BYTES, Bundle, install, pack
from drillyard.spec.load import Loaded
from drillyard.system.files import write_file
from drillyard.system.home import local_home
from drillyard.system.import_path import current
from drillyard.system.lists import few

_NAMED = 12
"""Files that a finding names."""
_DOCUMENTS = {".md", ".rst", ".pdf", ".html", ".ipynb", ".png", ".jpg", ".jpeg", ".svg", ".gif"}
_DOCUMENTS |= {".mp4", ".log", ".lock", ".docx", ".pptx"}
"""Endings of files that a simulator does not read."""


def packed(loaded: Loaded, exclude: Iterable[Path] = ()) -> Bundle:
    """Packs the folder of an experiment.

    Args:
        loaded: The experiment.
        exclude: Files and folders to leave out besides the experiment file.

    Raises:
        UserError: The folder cannot be sent, or ``files:`` names nothing.
    """
    folder = loaded.folder.resolve()
    if loaded.whole:
        named = [path for path in folder.rglob("*") if path.is_file()]
    else:
        named = list(named_files(folder, loaded.spec.files))
    return pack(
        folder,
        {loaded.file, *exclude},
        everything=loaded.spec.workload != "rl",
        named=named,
        opened=_opened(loaded),
    )


@contextlib.contextmanager
def unpacked(mailbox: Mailbox, sha: str | None) -> Iterator[None]:
    """The files that travelled with an experiment: importable and the working folder meanwhile.

    Args:
        mailbox: The experiment.
        sha: Name of its bundle; None for none.
    """
    before = list(sys.path)
    with tempfile.TemporaryDirectory(prefix="drillyard-code-") as scratch:
        paths = install(mailbox, sha, [], Path(scratch))
        sys.path[:0] = [str(path) for path in paths]
        try:
            with current(paths[0]) if paths else contextlib.nullcontext():
                yield
        finally:
            sys.path[:] = before


def findings(bundle: Bundle, folder: Path) -> list[Finding]:
    """What travels and what stays.

    Args:
        bundle: What ``packed`` returned.
        folder: Folder of the experiment.
    """
    size = sum(bundle.files.values()) / 1e6
    count = len(bundle.files)
    verb = "files travel" if count != 1 else "file travels"
    text = f"{count} {verb} to the workers, {size:.1f} MB of at most "
    text += f"{MAX_BYTES / 1e6:.0f}: {few(sorted(bundle.files), _NAMED) or 'nothing'}"
    rest = sorted(bundle.stays.items())
    quiet = [f"{name} ({why})" for name, why in rest if not _is_told(name, why)]
    listed = [passed("files", f"{text}. What stays: {few(quiet, _NAMED) or 'nothing'}")]
    secret = [f"{name} {why}" for name, why in rest if why.startswith("holds ")]
    if secret:
        fix = "keep them elsewhere; a reference such as ${env:NAME} gives a value to a run"
        listed.append(warning("files", f"{few(secret, _NAMED)}: never travels", fix))
    left = [name for name, why in rest if _is_told(name, why) and why == BY_ENDING]
    if left:
        sizes = few([f"{name} ({_size(folder / name)})" for name in left], _NAMED)
        fix = f"if the simulator reads them, write `files: [{few(left, 3, ', …')}]`"
        text = f"what a run cannot read, because its ending does not travel: {sizes}"
        listed.append(warning("files", text, fix))
    return listed


def remember_opened(loaded: Loaded, names: Iterable[str]) -> None:
    """Keeps the names of files that a training opened, so that they travel from now on."""
    known = {path.relative_to(loaded.folder.resolve()).as_posix() for path in _opened(loaded)}
    write_file(_memory(loaded), json.dumps(sorted({*known, *names})))


def _is_told(name: str, why: str) -> bool:
    path = Path(name)
    document = path.suffix.lower() in _DOCUMENTS or not path.suffix
    return why.startswith("holds ") or (why == BY_ENDING and not document)


def _size(path: Path) -> str:
    size = path.stat().st_size if path.exists() else 0
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def named_files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """The files that ``files:`` names.

    Args:
        folder: Folder of the experiment, resolved.
        patterns: Names with ``*`` and ``**``; a folder stands for all files below it.

    Raises:
        ConfigError: A pattern names no file of the folder, or a link.
    """
    for number, pattern in enumerate(patterns):
        inside = not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
        matches: list[Path] = []
        if inside and Path(pattern).parts:
            with contextlib.suppress(ValueError):  # `**x`
                matches = sorted(folder.glob(pattern))
        files = [f for m in matches for f in (m.rglob("*") if m.is_dir() else [m]) if f.is_file()]
        if not files:
            raise ConfigError(
                "names no file of the experiment's folder",
                field=f"files[{number}]",
                value=pattern,
                allowed="a file or folder beside the experiment file, or below; * and ** match",
                hint="correct the name, or copy the file there",
            )
        for path in files:
            link = next((p for p in (path, *path.parents) if p.is_symlink()), None)
            if link is not None:
                raise ConfigError(
                    "is a link, and links are not sent to workers",
                    field=f"files[{number}]",
                    value=link.relative_to(folder).as_posix(),
                    hint="replace it with what it leads to",
                )
        yield from files


def _opened(loaded: Loaded) -> Iterator[Path]:
    """The files that a trial on this machine opened, and that still exist."""
    folder = loaded.folder.resolve()
    try:
        names = json.loads(_memory(loaded).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    yield from (folder / name for name in names if (folder / name).is_file())


def _memory(loaded: Loaded) -> Path:
    digest = hashlib.sha256(str(loaded.file.resolve()).encode()).hexdigest()
    place: Path = local_home() / "opened" / f"{digest[:32]}.json"
    return place
