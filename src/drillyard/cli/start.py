"""The entry point: nothing but the standard library stands outside its ``try``.

A Ctrl-C that comes while the command line is still being imported ends as any other does.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run this process's command line.

    Returns:
        The exit code; see ``drillyard.cli.main.main``.
    """
    try:
        from drillyard.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
