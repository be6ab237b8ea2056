"""Ends a program whose owner was killed: a process beside both, which waits for the owner's end.

    python -m drillyard.system.guard PID STARTED [COMMAND …]

Its input is a pipe that the owner never writes to. COMMAND is run after the program has ended.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from drillyard.system.processes import ProcessId, end, tree

_REMOVAL_S = 30.0


def guarded(
    program: ProcessId, grace_s: float, last: Sequence[str], folder: str
) -> subprocess.Popen[bytes]:
    """Starts the guard of a program; whoever ends the program kills the guard then.

    Args:
        program: What this process started.
        grace_s: Seconds between SIGTERM and SIGKILL.
        last: Command that is run at the end; empty for none.
        folder: Where the guard works.
    """
    words = [sys.executable, "-m", __name__, str(program.pid), repr(program.started)]
    null = subprocess.DEVNULL
    return subprocess.Popen(
        [*words, str(grace_s), *last], cwd=folder, stdin=subprocess.PIPE, stdout=null, stderr=null
    )


def finish(last: Sequence[str]) -> None:
    """Runs the command that is left when a program has ended."""
    if last:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(last, capture_output=True, timeout=_REMOVAL_S, check=False)


def main() -> None:
    """Waits, and ends the program with all that it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
    program = ProcessId(int(sys.argv[1]), float(sys.argv[2]))
    sys.stdin.buffer.read()
    end(tree(program), float(sys.argv[3]))
    finish(sys.argv[4:])


if __name__ == "__main__":
    main()
