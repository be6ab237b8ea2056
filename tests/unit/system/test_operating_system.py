"""One module knows the operating system: the rest of the product asks it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.sources import ROOT, nodes, product

OWN = Path("src/drillyard/system/operating_system.py")
BARE = Path("backends/drillyard_emulators/bare")
"""Machines in namespaces of Linux, which refuse every other system at their start."""
TYPES_ONLY = Path("src/drillyard/simulators/fmu/values.py")
"""Uses the types of C that ``ctypes`` names, as FMPy's interface asks for."""
MODULES = {"ctypes", "fcntl", "grp", "msvcrt", "nt", "posix", "pty", "pwd", "resource", "termios"}
NAMES = {
    "sys": {"platform", "getwindowsversion"},
    "os": {
        *("name", "uname", "getuid", "geteuid", "getgid", "chown", "umask", "nice"),
        *("fork", "register_at_fork", "wait", "waitpid", "killpg"),
        *("getpgid", "getpgrp", "setpgid", "getsid", "setsid"),
        *("link", "symlink", "readlink", "posix_fallocate", "mkfifo"),
        *("sched_getaffinity", "sched_setaffinity", "sysconf"),
    },
    "platform": {"system", "uname", "mac_ver", "win32_ver", "libc_ver"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGSTOP", "SIGALRM"},
    "select": {"poll", "epoll"},
    "socket": {"AF_UNIX"},
}
WORDS = {"start_new_session", "preexec_fn", "umask"}
"""Arguments of ``subprocess.Popen`` that only some systems have."""


def asked(module: list[ast.AST]) -> Iterator[str]:
    """What a module asks the operating system for by itself."""
    for node in module:
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(source), names=names):
                known = NAMES.get(source, set())
                yield from (f"{source}.{n.name}" for n in names if n.name in known)
                if source.partition(".")[0] in MODULES:
                    yield source
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                if name in NAMES.get(owner, ()):
                    yield f"{owner}.{name}"
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[ast.Name(id=owner), *_]):
                if owner in ("os", "signal", "select"):
                    yield f"getattr of {owner}"
            case ast.Call(
                func=ast.Attribute(attr="get_context"), args=[ast.Constant(value="fork")]
            ):
                yield "fork"
            case ast.keyword(arg=str(word)) if word in WORDS:
                yield word
            case ast.Constant(value=str(text)) if text.startswith("/proc/"):
                yield text


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from signal import SIGKILL", ["signal.SIGKILL"]),
        ("os.killpg(1, 9)", ["os.killpg"]),
        ("hasattr(os, 'fork')", ["getattr of os"]),
        ("subprocess.Popen([], start_new_session=True)", ["start_new_session"]),
        ("import os, signal; os.replace(a, b); signal.SIGTERM", []),
    ],
)
def test_a_question_to_the_system_is_seen(code, found):
    assert list(asked(nodes(code))) == found


def test_only_one_module_asks_for_the_operating_system():
    assert (ROOT / OWN).is_file()
    others = {
        str(path.relative_to(ROOT)): questions
        for path, module in product().items()
        if (place := path.relative_to(ROOT)) not in (OWN, TYPES_ONLY)
        and BARE not in place.parents
        and (questions := sorted(set(asked(module))))
    }
    assert others == {}
