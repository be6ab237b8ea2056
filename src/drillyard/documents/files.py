"""Reading a configuration file: what it must be before anyone parses it."""

from __future__ import annotations

import difflib
from pathlib import Path

from drillyard.documents.document import Document
from drillyard.documents.json_comments import parse_json
from drillyard.documents.yaml_safe import parse_yaml
from drillyard.errors import ConfigError

MAX_BYTES = 512 * 1024
_JSON_SUFFIXES = {".json", ".json5", ".jsonc"}
_SUFFIXES = {".yaml", ".yml", *_JSON_SUFFIXES}
_SIMILAR = 0.6
"""Least likeness of two names, as ``difflib`` measures it."""


def read_document(path: Path, name: str | None = None) -> Document:
    """Read a YAML or JSON file.

    Args:
        path: The file.
        name: How messages call it; default: as given.

    Raises:
        ConfigError: Missing, a folder, too large, binary, or not such a file.
        ConfigErrors: Several things at once.
    """
    named = name or str(path)
    text = read_text(path, named)
    if path.suffix.lower() in _JSON_SUFFIXES:
        return parse_json(text, named)
    return parse_yaml(text, named)


def read_text(path: Path, shown: str) -> str:
    """The text of a file of a person.

    Args:
        path: The file.
        shown: How messages call it.

    Raises:
        ConfigError: Missing, a folder, too large, or binary.
    """
    try:
        if path.is_dir():
            raise ConfigError("is a folder", file=shown, hint="name the experiment file in it")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                f"is {size:,} bytes long",
                file=shown,
                allowed=f"at most {MAX_BYTES:,} bytes",
                hint="an experiment file is short; data belong into files beside it",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        typed = shown if path.is_absolute() else str(path)
        raise ConfigError("no such file", file=typed, hint=beside(path, typed)) from None
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=shown, hint="look at its permissions"
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"is not a text file: byte 0x{data[error.start]:02x} is not UTF-8",
            file=shown,
            line=line,
            hint="save it as UTF-8 text",
        ) from None


def beside(path: Path, typed: str) -> str:
    """What to say where a file is not: the similar names of its kind in its folder.

    Args:
        path: The file.
        typed: As the user wrote it.
    """
    folder, kind = path.parent, path.suffix.lower()
    if not folder.is_dir():
        return f"there is no folder {folder}"
    kinds = {kind} if kind and kind not in _SUFFIXES else _SUFFIXES
    known = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in kinds}
    what = "experiment" if kinds is _SUFFIXES else kind
    if not known:
        return f"the folder {folder} has no {what} files"
    # Suffixes and folders are equal, and would make any two names similar.
    close = difflib.get_close_matches(path.stem, list(known), n=3, cutoff=_SIMILAR)
    names = [repr(str(Path(typed).with_name(known[stem].name))) for stem in close]
    if names:
        return "did you mean " + " or ".join(names) + "?"
    return f"no {what} file in the folder {folder} has a similar name; check the path"
