"""TensorBoard that ends with the process that started it, for ``python -m``."""

from __future__ import annotations

import os
import signal
import sys

from drillyard.system.operating_system import end_with_parent

PARENT = "DRILLYARD_PARENT"
"""Process id of the parent."""


def main() -> None:
    """Serve; the arguments are TensorBoard's own."""
    end_with_parent()
    if os.environ.get(PARENT) not in (None, str(os.getppid())):
        return  # the parent died before we could watch it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    from tensorboard.main import run_main

    sys.argv[0] = "tensorboard"
    run_main()


if __name__ == "__main__":
    main()
