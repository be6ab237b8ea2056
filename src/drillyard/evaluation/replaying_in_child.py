"""Replays in a child process, for a simulator that ended its process or hung in it."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

from drillyard.evaluation.replaying import Recording, Replayed, replay
from drillyard.system.operating_system import start_context


@dataclass(frozen=True)
class Ended:
    """How the child ended without a result."""

    how: str


def replay_in_child(
    recording: Recording, episode: int, to: int, limit_s: float
) -> Replayed | Ended:
    """Replay in a child process, which writes its stack to stderr when it crashes or hangs.

    Args:
        recording: The record.
        episode: See ``replay``.
        to: See there.
        limit_s: Longest duration, in seconds.
    """
    context = start_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(recording, episode, to, theirs, limit_s))
    child.start()
    theirs.close()
    try:
        if not ours.poll(limit_s + 5.0):
            return Ended(f"did not come back within {limit_s:g} s")
        with contextlib.suppress(EOFError):
            replayed: Replayed = ours.recv()
            return replayed
        child.join()
        code = child.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        return Ended(f"ended the process with {name}")
    finally:
        child.kill()
        child.join()
        ours.close()


def _child(recording: Recording, episode: int, to: int, pipe: Connection, limit_s: float) -> None:
    faulthandler.enable(file=2)
    faulthandler.dump_traceback_later(limit_s, file=2)
    replayed = replay(recording, episode, to)
    replayed.rows.clear()  # they may hold anything
    pipe.send(replayed)
