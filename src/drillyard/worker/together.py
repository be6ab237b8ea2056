"""The training tickets of one process: each a run of its own, computed together.

Each ticket has a thread with everything that a ticket's process has: its heartbeat, its stop
requests, its log, its ending. ``Turns`` lets one of them work at a time, and the compiled learner
hands in its rollouts there (``jax_engine.lanes``). A ticket that fails, is pruned or is done
leaves, and the others continue. If the process ends, the worker writes the endings that are
missing, and each run continues from its own checkpoint.
"""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection

from drillyard.runs.workload import StopSignal
from drillyard.system.turns import Turns
from drillyard.worker.execution import REPORTED, UNREPORTED, execute
from drillyard.worker.machine import Job
from drillyard.worker.sidecar import listen
from drillyard.worker.signals import listen_in_attempt


def execute_together(job: Job, worker: Connection | None = None) -> int:
    """Run the tickets of a job, and write how each ended.

    Args:
        job: The job, with the others of its process.
        worker: Pipe for stop requests, which are for all of them.

    Returns:
        ``REPORTED``, or ``UNREPORTED`` if an ending is missing.
    """
    jobs = job.all
    turns, stops = Turns(len(jobs), job.together), [StopSignal() for _ in jobs]
    codes = [UNREPORTED] * len(jobs)

    def work(number: int) -> None:
        stop, output = stops[number], jobs[number].log_path
        # Reading the signal shows that it is alive: it waits for a neighbour.
        with turns.member(number, output, lambda: stop.requested):
            codes[number] = execute(jobs[number], stop=stop)

    for each in jobs:
        each.scratch.mkdir(parents=True, exist_ok=True)
    listen_in_attempt(*stops)
    if worker is not None:
        listen(worker, stops)
    threads = [
        threading.Thread(target=work, args=(number,), name=each.ticket.ticket)
        for number, each in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return REPORTED if all(code == REPORTED for code in codes) else UNREPORTED
