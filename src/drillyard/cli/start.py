"""The entry point. Only the standard library is imported outside its ``try``.

So a Ctrl-C during the imports ends the command as any other Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

EXIT_S = 20.0
"""How long threads of a library may hold up the end of a command that is done."""


def main() -> int:
    """Runs the command line of this process, which has to end with it.

    Returns:
        The exit code; see ``drillyard.cli.main.main``.
    """
    try:
        from drillyard.system.garbage import look_rarely

        look_rarely()
        from drillyard.cli.main import main as run

        code = run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        code = 130
    threading.Thread(target=_end, args=(code,), name="end", daemon=True).start()
    return code


def _end(code: int) -> None:
    """Ends the process: Prefect's threads may wait for a server that has ended."""
    time.sleep(EXIT_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
