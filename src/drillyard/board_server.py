"""``python -m drillyard.board_server``: TensorBoard that ends with the process that started it."""

from __future__ import annotations

import os
import signal
import sys

PARENT = "DRILLYARD_PARENT"
"""Process id of who starts it."""


def main() -> None:
    """Serve; the arguments are TensorBoard's own."""
    if sys.platform == "linux":
        import ctypes

        # Also after `kill -9` of the parent: PR_SET_PDEATHSIG.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.environ.get(PARENT) not in (None, str(os.getppid())):
        return  # it was killed before we could ask to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    from tensorboard.main import run_main

    sys.argv[0] = "tensorboard"
    run_main()


if __name__ == "__main__":
    main()
