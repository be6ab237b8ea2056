"""Records in which step each copy of a simulator is, in a file that outlives the process.

A simulator is foreign code. It may never return from a step, or end the whole process in it, and
then no exception shows where. So each copy writes when it enters and leaves a step, to memory that
is a file of the attempt once ``keep_in`` was called. The stall watch, the training, and the worker
after the process's end can read it.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from pathlib import Path

from drillyard.errors import DrillyardError
from drillyard.system import user_code

NAME = "whereabouts"
COPIES = 1024
"""Copies with a larger index are not recorded."""
_OUTSIDE, _RESET = 0, -1
_NO_SEED = -1
_ENTRY = struct.Struct("=qqq")
"""Step of the episode from 1, or one of the two above; seed; copies that share the step."""
_SIZE = COPIES * _ENTRY.size
_memory = mmap.mmap(-1, _SIZE)  # shared with what is forked


def keep_in(folder: Path) -> None:
    """Write to a file of this folder from now on."""
    global _memory
    with (folder / NAME).open("w+b") as file:
        file.truncate(_SIZE)
        _memory = mmap.mmap(file.fileno(), _SIZE)


def enter(copy: int, step: int, seed: int | None, together: int = 1) -> None:
    """Record that the simulator is about to be called.

    Args:
        copy: Its index; the first one if several share the step.
        step: Step of the episode, from 1; 0 for a reset.
        seed: Seed of the copy's last seeded reset.
        together: Number of copies that share the step.
    """
    if copy < COPIES:
        known = _NO_SEED if seed is None else seed
        _ENTRY.pack_into(_memory, copy * _ENTRY.size, step or _RESET, known, together)


def leave(copy: int) -> None:
    """Record that the call returned or raised."""
    if copy < COPIES:
        _ENTRY.pack_into(_memory, copy * _ENTRY.size, _OUTSIDE, _NO_SEED, 1)


def inside(folder: Path | None = None) -> str:
    """The first copy that is inside a call; empty if there is none.

    Args:
        folder: Folder of an attempt whose process may have ended; None: of this process.
    """
    if folder is None:
        return _first(bytes(_memory))
    with contextlib.suppress(OSError):
        return _first((folder / NAME).read_bytes())
    return ""


def found_inside(folder: Path) -> tuple[int, int] | None:
    """Copy and step (0 for a reset) of the first copy that is inside a call; None: no copy.

    Args:
        folder: Folder of an attempt whose process has ended.
    """
    with contextlib.suppress(OSError):
        for copy, (step, _, _) in enumerate(_ENTRY.iter_unpack((folder / NAME).read_bytes())):
            if step != _OUTSIDE:
                return copy, max(step, 0)
    return None


def of(copy: int) -> str:
    """The same of one copy."""
    return _text(copy, *_ENTRY.unpack_from(_memory, copy * _ENTRY.size)) if copy < COPIES else ""


def place(
    copy: int, step: int, seed: int | None, together: int = 1, episode: int | None = None
) -> str:
    """A step as text.

    Args:
        copy: See ``enter``.
        step: See there.
        seed: See there.
        together: See there.
        episode: Number of the copy's episode in this attempt, from 1, where it is known.
    """
    if together == 1:
        when = f"step {step}" if step else "the reset"
        which = "an episode" if episode is None else f"episode {episode}"
        return f"{when} of {which} (copy {copy}, reset with seed {seed})"
    last = "" if seed is None else f" to {seed + together - 1}"
    return f"step {step} of all {together} copies at once (seeds {seed}{last})"


def note(
    error: BaseException,
    copy: int,
    step: int,
    seed: int | None,
    together: int = 1,
    episode: int | None = None,
    source: str = "",
) -> None:
    """Add the place to a simulator's exception.

    drillyard's own errors contain it already, except for the episode's number and the line.

    Args:
        error: What the simulator raised, or drillyard because of a value that it returned.
        copy: See ``place``.
        step: See there.
        seed: See there.
        together: See there.
        episode: See there.
        source: Where the user defines the method that returned the value.
    """
    if isinstance(error, DrillyardError):
        if episode is not None and f"episode {episode} " not in str(error):
            error.add_note(f"this is episode {episode} of copy {copy}{source}")
    else:
        line = user_code.place(error)
        at = place(copy, step, seed, together, episode)
        error.add_note(f"in the simulator, at {at}{f', in {line}' if line else ''}")


def _first(memory: bytes) -> str:
    texts = (_text(copy, *entry) for copy, entry in enumerate(_ENTRY.iter_unpack(memory)))
    return next(filter(None, texts), "")


def _text(copy: int, step: int, seed: int, together: int) -> str:
    if step == _OUTSIDE:
        return ""
    known = None if seed == _NO_SEED else seed
    return place(copy, 0 if step == _RESET else step, known, together)
