"""The archive of the user's folder for the workers: packed once, named by its hash.

It contains the files with an allowed suffix below the folder of the experiment file, and those
that ``files:`` names; where the work is not a training, files of every kind, since a script may
read anything. It leaves out hidden files, virtual environments, caches, stores of results, what
``.drillyardignore`` names (and ``.gitignore``, where files of every kind travel), experiment files
and files named on the command line (their values are in the resolved experiment already, so that
editing a budget does not look like editing a simulator). Private keys are never in it.
The archive is deterministic, and its name is the sha256 of the *uncompressed* tar, because the
compressed bytes differ between versions of zlib.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path, PurePosixPath

from drillyard.errors import CorruptObject, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectMissing
from drillyard.runs import wheels
from drillyard.runs.ignore_rules import Rule, leaves_out, read
from drillyard.runs.requirements import install_requirements
from drillyard.runs.secret_files import secret_in
from drillyard.system.files import locked, replacing
from drillyard.system.home import local_home

_ENDINGS = {
    "code and settings": "py pyi json json5 yaml yml toml ini cfg txt sql sh",
    "tables and arrays": "csv tsv npy npz mat h5 hdf5 nc parquet feather xlsx",
    "models of plants": "fmu ssp mo mos slx mdl epjson idf imf osm epw ddy inp dck zip",
    "robots": "xml mjcf urdf xacro sdf stl obj dae ply",
    "policies": "safetensors onnx",
    "libraries": "so pyd dll dylib",
    "programs of their own": "pl pm js mjs lua rb r jl m tcl jar exe",
}
SUFFIXES = frozenset(f".{ending}" for text in _ENDINGS.values() for ending in text.split())
BY_ENDING = "its ending"
"""Why a file stays that nothing but its ending keeps here."""
MAX_BYTES = 64 << 20
MAX_FILES = 10_000
IGNORE_FILE = ".drillyardignore"
_SKIPPED = frozenset(
    {
        "__pycache__",
        "node_modules",
        "site-packages",
        "drillyard-runs",
        "mlruns",
        "mlartifacts",
        "venv",
        "env",
        "build",
        "dist",
    }
)
TRIES = 5
"""How often a folder is read in which files disappear."""
PAUSE_S = 0.1
"""Before it is read again; each pause is twice as long as the one before."""
_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ESTALE})
"""Errors of what was listed and has been deleted or replaced since; ESTALE is that of NFS."""
_SETTINGS = frozenset({".yaml", ".yml", ".json", ".json5"})
_EXPERIMENT = re.compile(rb"""(?:^[ \t]*|[{,]\s*)["']?schema["']?\s*:\s*\d""", re.MULTILINE)
_NAMED = re.compile(
    rb"""(?:^[ \t]*|[{,]\s*)["']?(simulator|workload|study)["']?\s*:""", re.MULTILINE
)


@dataclass(frozen=True)
class Bundle:
    """A packed folder.

    Attributes:
        sha256: Hash of the uncompressed tar; its name in the store.
        data: The gzip-compressed tar.
        files: Names in it, sorted, with their sizes in bytes.
        stays: Names of files and whole folders that are left out, and why.
    """

    sha256: str
    data: bytes
    files: dict[str, int]
    stays: dict[str, str] = field(default_factory=dict)


def pack(
    folder: Path,
    exclude: Iterable[Path] = (),
    *,
    everything: bool = False,
    named: Iterable[Path] = (),
    opened: Iterable[Path] = (),
) -> Bundle:
    """Pack a user's folder.

    Args:
        folder: Folder of the experiment file.
        exclude: Files and folders to leave out, such as a store inside the folder.
        everything: Files of every kind, not only those with an ending of ``SUFFIXES``.
        named: Files in it that travel whatever their name and place, except secrets.
        opened: Files in it that travel whatever their ending.

    Raises:
        UserError: Too large, too many files, a link where a file is expected, a file that may not
            be read, or files that disappear again and again while the folder is read.
    """
    root = folder.resolve()
    left_out = {path.resolve() for path in exclude}
    also = {root / path for path in named}
    also = {path for path in also if left_out.isdisjoint((path, *path.parents))}
    used = {root / path for path in opened}
    vanished = None
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_S * 2 ** (number - 1))
        try:
            return _pack(root, left_out, everything, also, used)
        except PermissionError as error:
            raise UserError(
                f"{error.filename} cannot be read: {error.strerror}",
                hint=f"give yourself the right to read it, or list it in {root / IGNORE_FILE}",
            ) from error
        except OSError as error:
            # Another program deletes files here. What it leaves counts, and all of it.
            if error.errno not in _VANISHED:
                raise
            vanished = error.filename
    raise UserError(
        f"{root} changes while it is read: {vanished} disappeared",
        hint=f"list what other programs write there in {root / IGNORE_FILE}",
    )


def _pack(
    root: Path, left_out: set[Path], everything: bool, named: set[Path], opened: set[Path]
) -> Bundle:
    stays: dict[Path, str] = {}
    raw = io.BytesIO()
    files: dict[str, int] = {}
    total = 0
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        # One order: what came from a store, where all are named, is packed under the same name.
        for path in merge(_walk(root, [], left_out, everything, opened, stays), sorted(named)):
            name = path.relative_to(root).as_posix()
            if name in files:
                continue
            if path not in named and name.endswith(".schema.json"):
                continue  # for editors; `drillyard schema -o` writes it beside the file
            files[name] = path.stat().st_size
            total += files[name]
            if total > MAX_BYTES or len(files) > MAX_FILES:
                raise _too_large(root, files, total)
            data = path.read_bytes()
            reason = _reason_inside(path, data, named)
            if reason is not None:
                stays[path] = reason
                total -= files.pop(name)
                continue
            stays.pop(path, None)
            entry = tarfile.TarInfo(name)
            # Of a program without an ending; the mode of the others was never kept.
            program = path.suffix.lower() not in SUFFIXES and os.access(path, os.X_OK)
            entry.size, entry.mode, entry.mtime = len(data), 0o755 if program else 0o644, 0
            tar.addfile(entry, io.BytesIO(data))
    content = raw.getvalue()
    packed = gzip.compress(content, compresslevel=6, mtime=0)
    left = {path.relative_to(root).as_posix(): why for path, why in stays.items()}
    return Bundle(hashlib.sha256(content).hexdigest(), packed, files, left)


def changed(mailbox: Mailbox, before: str | None, now: Bundle | None) -> list[str]:
    """The files in which two bundles differ, as text: ``changed sim.py``, ``new a.py``.

    Args:
        mailbox: Where the earlier one is stored.
        before: Its sha256, None for none.
        now: The later one, None for none.

    Returns:
        Sorted by name; empty if the earlier one can no longer be read.
    """
    try:
        old = _hashes(_fetch(mailbox, before)) if before else {}
    except CorruptObject:
        return []
    new = _hashes(gzip.decompress(now.data)) if now else {}
    paths = []
    for name in sorted({*old, *new}):
        if name not in new:
            paths.append(f"gone {name}")
        elif name not in old:
            paths.append(f"new {name}")
        elif old[name] != new[name]:
            paths.append(f"changed {name}")
    return paths


def _hashes(content: bytes) -> dict[str, str]:
    """Name -> sha256 of every file of an uncompressed archive."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return {
            entry.name: hashlib.sha256(file.read()).hexdigest()
            for entry in tar
            if (file := tar.extractfile(entry)) is not None
        }


def upload(mailbox: Mailbox, bundle: Bundle) -> None:
    """Store a bundle for the workers, unless it is stored already."""
    key = _key(mailbox, bundle.sha256)
    if mailbox.store.stat(key) is None:
        mailbox.store.put(key, bundle.data)


def unpack(bundle: Bundle, target: Path) -> None:
    """Writes the files of a bundle into a new folder."""
    _unpack(gzip.decompress(bundle.data), target)


def install(
    mailbox: Mailbox, sha: str | None, requirements: list[str], folder: Path, lease: str = ""
) -> list[Path]:
    """Make the user's code and packages importable on this machine.

    Safe to repeat, and to call from several processes at once.

    Args:
        mailbox: Where the bundle is stored.
        sha: Name of the bundle, or None for an experiment without code.
        requirements: Pinned packages, ``name==version`` each.
        folder: Local folder that keeps both as long as the worker runs.
        lease: Id of the lease, whose wheels may be in the store.

    Returns:
        Folders to put at the front of ``sys.path``, the user's folder first.

    Raises:
        CorruptObject: The bundle is missing or damaged.
        UserError: A requirement cannot be installed; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    if sha is not None:
        target = folder / f"code-{sha[:16]}"
        with locked(folder / "code.lock"):
            if not target.is_dir():
                _unpack(_fetch(mailbox, sha), target)
        paths.append(target)
    if requirements:
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder) as scratch:
            stored = wheels.fetch(mailbox, lease, Path(scratch)) if lease else None
            paths.append(install_requirements(requirements, folder, stored))
    return paths


def _key(mailbox: Mailbox, sha: str) -> str:
    return mailbox.key(f"code/{sha}.tar.gz")


def _fetch(mailbox: Mailbox, sha: str) -> bytes:
    where = f"code bundle {sha[:12]}"
    try:
        packed = mailbox.store.get(_key(mailbox, sha))
    except ObjectMissing:
        raise CorruptObject(
            f"{where} is missing from {mailbox.store.url}", hint="run the same command again"
        ) from None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            # No bundle is larger than its limit: a zip bomb in its place is refused here.
            content = file.read(MAX_BYTES + MAX_FILES * 2048 + 1)
    except (OSError, EOFError) as error:
        raise CorruptObject(f"{where} is damaged: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha:
        raise CorruptObject(f"{where} is not what was packed (sha256)")
    return content


def _unpack(content: bytes, target: Path) -> None:
    try:
        with (
            replacing(target) as folder,
            tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar,
        ):
            folder.mkdir()
            # Without tarfile's own filter, which Python 3.11.0 to 3.11.3 lack. A bundle holds only
            # files: links, devices and names that lead elsewhere are refused.
            for member in tar:
                name = PurePosixPath(member.name)
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or name.is_absolute() or ".." in name.parts:
                    raise tarfile.TarError(f"{member.name!r} is not a file inside it")
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
                if member.mode & 0o100:
                    path.chmod(0o755)
    except tarfile.TarError as error:
        raise CorruptObject(f"the code bundle cannot be unpacked: {error}") from error


def _walk(
    folder: Path,
    rules: list[Rule],
    left_out: set[Path],
    everything: bool,
    opened: Container[Path],
    stays: dict[Path, str],
) -> Iterator[Path]:
    names = (".gitignore", IGNORE_FILE) if everything else (IGNORE_FILE,)
    rules = [*rules, *(rule for name in names for rule in read(folder / name))]
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        travels = everything or path.suffix.lower() in SUFFIXES or path in opened
        is_folder = entry.is_dir() and not entry.is_symlink()
        rule = "in the command" if path in left_out else leaves_out(rules, path, is_folder)
        reason = "hidden" if entry.name.startswith(".") else rule or _reason(entry, travels)
        if reason is not None:
            stays[path] = reason
        elif entry.is_symlink():
            if travels:
                raise UserError(
                    f"{path} is a link: links are not sent to workers",
                    hint=f"replace it with the file itself, or list it in {folder / IGNORE_FILE}",
                )
        elif is_folder:
            yield from _walk(path, rules, left_out, everything, opened, stays)
        else:
            yield path


def _reason(entry: os.DirEntry[str], travels: bool) -> str | None:
    """Why a folder or a file stays here; None if it travels, and for a link."""
    if entry.is_symlink():
        return None
    if entry.is_dir():
        return "an environment, a cache or results" if _skipped_folder(Path(entry.path)) else None
    if not entry.is_file():
        return "not a file"
    return None if travels else BY_ENDING


def _reason_inside(path: Path, data: bytes, named: Container[Path]) -> str | None:
    """Why a file stays here because of its content; None if it travels."""
    secret = secret_in(path.name, data)
    if secret is not None or path in named:
        return secret
    is_settings = path.suffix.lower() in _SETTINGS
    return "an experiment" if is_settings and _is_experiment(data) else None


def _skipped_folder(path: Path) -> bool:
    if path == local_home():  # not code, but what this machine remembers
        return True
    if path.name in _SKIPPED or path.name.endswith((".egg-info", ".dist-info")):
        return True
    # A virtual environment, a store of results or a Conda environment, under any name.
    return any((path / mark).exists() for mark in ("pyvenv.cfg", "mlflow.db", "conda-meta")) or (
        next(path.glob("*/experiment.json"), None) is not None
    )


def _is_experiment(data: bytes) -> bool:
    return bool(_EXPERIMENT.search(data) and _NAMED.search(data))


def _too_large(root: Path, files: dict[str, int], total: int) -> UserError:
    biggest = sorted(files.items(), key=lambda item: -item[1])[:3]
    names = ", ".join(f"{name} ({size / 1e6:.1f} MB)" for name, size in biggest)
    return UserError(
        f"{root} is too large to send to workers: more than {MAX_BYTES >> 20} MiB or "
        f"{MAX_FILES} files ({len(files)} files, {total / 1e6:.0f} MB so far; biggest: {names})",
        hint="keep the experiment file in a folder with only its code, or list the files that are "
        f"not needed in {IGNORE_FILE}",
    )
