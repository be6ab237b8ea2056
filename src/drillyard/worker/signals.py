"""What the processes of a machine do at SIGTERM and Ctrl-C.

The process that forks the attempts has its own module, ``pool_server_signals``.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from drillyard.mailbox.status import Cause
from drillyard.runs.workload import StopSignal
from drillyard.system.operating_system import ENDINGS

if TYPE_CHECKING:
    from drillyard.worker.worker import Worker


def listen_in_worker(worker: Worker) -> None:
    """In a worker: SIGTERM ends it in order; Ctrl-C and a closed terminal are the driver's."""

    def on_term(_number: int, _frame: object) -> None:
        worker.terminate()

    signal.signal(signal.SIGTERM, on_term)
    for number in ENDINGS:
        if number is not signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def listen_in_attempt(*stops: StopSignal) -> None:
    """In the process of attempts: SIGTERM stops them, as where a machine is taken away."""

    def on_term(_number: int, _frame: object) -> None:
        # The worker sends causes through the pipe; SIGTERM alone means that the machine ends.
        for stop in stops:
            stop.set(Cause.PREEMPTION, "SIGTERM: this machine or process is being taken away")

    with contextlib.suppress(ValueError):  # not the main thread, which has the signals
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
