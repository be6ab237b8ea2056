"""The stall watch: a phase that hangs in foreign code ends as TIMED_OUT.

The work is active while it reads the stop signal, which learners and evaluations do at every
environment step, reports progress, or copies files to or from a store. After ``budget.stall_s``
without any of these, the watch logs the stack of every thread, writes the ending and ends the
process. The last checkpoint is kept. Code that never releases the interpreter also blocks the
watch. So each step sets the system's alarm forward, which then ends the process (and the worker
writes the ending).
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable

from drillyard.mailbox.records import TicketRecord
from drillyard.runs.workload import StopSignal, Transfers
from drillyard.system import step_marker
from drillyard.system.clock import Clock
from drillyard.system.loops import Loop
from drillyard.system.operating_system import ALARM, own_group
from drillyard.worker.progress import ProgressKeeper

ALARM_GRACE_S = 60.0
"""Seconds by which the system's alarm comes later than this watch."""
END_S = 150.0
"""Seconds for the ending: the last heartbeat, the last log lines, and an unreachable store."""
_MAX_POLL_S = 5.0
log = logging.getLogger(__name__)


class StallWatch:
    """Watches whether a phase is active.

    Args:
        ticket: The ticket.
        limit_s: Longest time without activity, in seconds; None: no watch.
        stop: The stop signal, whose reads are counted.
        progress: The progress, whose reports are counted.
        clock: Time.
        end: Called with the reason; does not return in a real process.
        transfers: The copies under way, during which nothing else is expected.
    """

    def __init__(
        self,
        ticket: TicketRecord,
        limit_s: float | None,
        stop: StopSignal,
        progress: ProgressKeeper,
        clock: Clock,
        end: Callable[[str], None],
        transfers: Transfers | None = None,
    ) -> None:
        self._ticket = ticket
        self._limit_s = limit_s
        self._stop = stop
        self._progress = progress
        self._end = end
        self._transfers = transfers
        self._seen = (0, 0)
        self._since: float | None = None
        self._loop = Loop("stall", self.step, clock)

    def __enter__(self) -> StallWatch:
        """Start to watch, if there is a limit."""
        if self._limit_s is not None:
            with contextlib.suppress(ValueError):  # not the main thread, which has the alarm
                if ALARM is not None and signal.getsignal(ALARM) is signal.SIG_DFL:
                    faulthandler.register(ALARM, file=sys.stderr, chain=True)
            self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch: the phase returned."""
        if self._limit_s is not None:
            self._loop.stop(timeout_s=10.0)
            self._alarm(0.0)

    def _signs(self) -> tuple[int, int]:
        return self._stop.looks, self._progress.words

    def step(self, now: float) -> float | None:
        """Check for activity.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None once the phase was ended.
        """
        limit = self._limit_s or 0.0
        signs = self._signs()
        if self._since is None or signs != self._seen or self._transfers:
            self._seen, self._since = signs, now
        elif now - self._since >= limit:
            # The end waits for the store; the alarm is for an end that hangs itself.
            self._alarm(END_S)
            self._end(self._message())
            return None
        self._alarm(limit + min(ALARM_GRACE_S, max(1.0, limit)))
        return min(_MAX_POLL_S, limit / 4)

    def _message(self) -> str:
        step = self._progress.step
        after = f" after step {step:,}" if step else ""
        inside = step_marker.inside()
        return (
            f"no environment step for {self._limit_s:g} s{after} of `{self._ticket.phase.value}`: "
            f"it hangs{f' in {inside}' if inside else ''}, and was ended by budget.stall_s"
        )

    @staticmethod
    def _alarm(seconds: float) -> None:
        with contextlib.suppress(OSError, ValueError):
            signal.setitimer(signal.ITIMER_REAL, seconds)


def dump_stacks() -> None:
    """Log the stack of every thread, which helps to fix the simulator.

    From here on nothing else of this process gets into its log, because a simulator that prints
    without end would hide the stack.
    """
    log_file = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(log_file)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    log.error("the stack of every thread:")
    faulthandler.dump_traceback(file=log_file, all_threads=True)


def exit_now(code: int) -> None:
    """End this process and what it started; the hanging thread cannot be asked."""
    from drillyard.system.processes import ProcessId, end, in_group

    me = ProcessId.current()
    if own_group() == me.pid:
        end([p for p in in_group(me.pid) if p.pid != me.pid], grace_s=0.0)
    os._exit(code)
