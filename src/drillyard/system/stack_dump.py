"""Finds the line at which code hangs: nothing is raised there that could name it.

``faulthandler`` writes the stacks of a process when a signal arrives, in native code too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO

from drillyard.system.operating_system import DUMP
from drillyard.system.user_code import innermost

_ANSWER_S = 2.0
_LOOK_EVERY_S = 0.05
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)')
_WHOLE = re.compile(r"most recent call first\):\n(?:  .*\n)+")


def arm(file: IO[bytes]) -> None:
    """Lets this process write its stacks into a file when it is asked to.

    Args:
        file: Must stay open.
    """
    if DUMP is None:
        return
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        faulthandler.register(DUMP, file=file, all_threads=True, chain=False)


def place_of(pid: int, read: Callable[[], str]) -> str | None:
    """Returns ``file:line`` of the user's code that an armed process is in, with its function.

    Args:
        pid: The process. It must have been armed: the signal would end another one.
        read: Returns what it has written.
    """
    if DUMP is None:
        return None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, DUMP)
    end = time.monotonic() + _ANSWER_S
    while not _WHOLE.search(read()) and time.monotonic() < end:
        time.sleep(_LOOK_EVERY_S)
    # The thread that was interrupted comes first, and its innermost frame.
    frames = [(m["file"], int(m["line"]), m["name"]) for m in _FRAME.finditer(read())]
    return innermost(frames)


def place_of_thread(ident: int | None) -> str | None:
    """Returns the same for a thread of this process.

    Args:
        ident: ``Thread.ident``.
    """
    frame = sys._current_frames().get(ident or 0)
    if frame is None:
        return None
    stack = reversed(traceback.extract_stack(frame))
    return innermost([(f.filename, f.lineno or 0, f.name) for f in stack])
