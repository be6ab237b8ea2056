"""Commands that only look, run inside this process: no second interpreter imports everything.

A process of its own takes two to five seconds of a core to import what a command needs. Here the
command runs through the entry point that takes its words, and everything that it changed in this
process is put back.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CODE = ' 2>&1; echo "exit code $?"'
"""How a documented command ends that shows with which code it ends."""
SHELL = frozenset("|&;<>$`(){}*?~\n")
"""Characters that a shell would act on, outside of quotes."""


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended; named as ``subprocess.CompletedProcess`` does."""

    returncode: int
    stdout: str
    stderr: str


def words_of(line: str) -> list[str] | None:
    """The words after ``drillyard``, or None where the line needs a shell or is another program.

    Args:
        line: As a user types it; ``CODE`` may follow.
    """
    line = line.removesuffix(CODE)
    lexer = shlex.shlex(line, posix=False, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if any(SHELL & set(_unquoted(word)) for word in lexer):
        return None
    words = shlex.split(line)
    return words[1:] if words[:1] == ["drillyard"] else None


def _unquoted(word: str) -> str:
    """What of a word is outside of quotes."""
    kept, quote = [], ""
    for letter in word:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            kept.append(letter)
    return "".join(kept)


def shown(line: str, folder: Path, environ: Mapping[str, str]) -> Done:
    """Run a documented line that ``words_of`` understands; ``CODE`` is printed as a shell would.

    Args:
        line: As a user types it.
        folder: The working directory.
        environ: Set while it runs, beside what is set already.
    """
    words = words_of(line)
    assert words is not None, line
    done = called(words, folder, environ)
    if not line.endswith(CODE):
        return done
    return Done(0, f"{done.stdout}{done.stderr}\nexit code {done.returncode}\n", "")


def called(words: list[str], folder: Path, environ: Mapping[str, str]) -> Done:
    """Run a command line in this process.

    Args:
        words: After the program's name.
        folder: The working directory.
        environ: Set while it runs, beside what is set already.
    """
    from drillyard.cli.main import main

    _forget_users_modules()
    with _as_it_was(), tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.chdir(folder)
        os.environ.update(environ)
        with _printing_to(1, out.fileno()), _printing_to(2, err.fileno()):
            code = main(words)
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def _forget_users_modules() -> None:
    """Two pages may have modules of one name, which a process imports once."""
    root = Path(__file__).parents[2]
    kept = (sys.prefix, sys.base_prefix, str(root))
    forgotten = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        places = [spec.origin] if spec and spec.origin else []
        places += [] if places or spec is None else spec.submodule_search_locations or []
        example = any(p.startswith(str(root / "experiments")) for p in places)
        elsewhere = any(os.path.isabs(p) for p in places)  # not "built-in" or "frozen"
        if example or (elsewhere and not any(p.startswith(kept) for p in places)):
            forgotten.append(name)
    # A folder without __init__.py asks for its parent's path, so its parent goes with it.
    for name in forgotten:
        del sys.modules[name]


@contextlib.contextmanager
def _printing_to(number: int, target: int) -> Iterator[None]:
    """Send a standard stream elsewhere, for this process and those that it starts."""
    name = {1: "stdout", 2: "stderr"}[number]
    before, kept = getattr(sys, name), os.dup(number)
    before.flush()
    os.dup2(target, number)
    # It stays usable afterwards: a log handler may have kept it.
    stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, before)
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back the working directory, the environment, the import path, and modules of the user.

    A user's module is one whose file is outside of this interpreter and this repository: the next
    command must read its own copy of it.
    """
    folder, environ, path = Path.cwd(), dict(os.environ), list(sys.path)
    modules = set(sys.modules)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        ours = (sys.prefix, sys.base_prefix, *path)
        for name in sys.modules.keys() - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and not file.startswith(tuple(p for p in ours if p)):
                del sys.modules[name]
        sys.path[:] = path
