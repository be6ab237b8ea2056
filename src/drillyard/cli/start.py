"""The entry point. Only the standard library is imported outside its ``try``.

So a Ctrl-C during the imports ends the command as any other Ctrl-C does.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Runs the command line of this process.

    Returns:
        The exit code; see ``drillyard.cli.main.main``.
    """
    try:
        from drillyard.system.garbage import look_rarely

        look_rarely()
        from drillyard.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
