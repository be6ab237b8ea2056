"""The watch over a phase that hangs: foreign code that never comes back ends as TIMED_OUT.

A sign of life is a look at the stop signal, which learners and evaluations take at every
environment step, or a word about progress. Where none comes for ``budget.stall_s``, the watch
writes down where every thread stands, says the ending and ends the process; the last checkpoint
stands. Code that never lets go of the interpreter holds up the steps too, so the system's own
alarm clock, which each step sets forward, ends the process then (and the worker says the ending).
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
from drillyard.runs.phases import StopSignal
from drillyard.system import step_marker
from drillyard.system.clock import Clock
from drillyard.system.loops import Loop
from drillyard.worker.progress import ProgressKeeper

ALARM_GRACE_S = 60.0
"""How much later than this watch the system's alarm comes."""
_MAX_POLL_S = 5.0
log = logging.getLogger(__name__)


class StallWatch:
    """Looks beside a phase whether it lives.

    Args:
        ticket: What is done.
        limit_s: Longest time without a sign of life, in seconds; None: nothing is watched.
        stop: Whose looks are counted.
        progress: Whose words are counted.
        clock: Time.
        end: Called with what happened; does not return in a real process.
    """

    def __init__(
        self,
        ticket: TicketRecord,
        limit_s: float | None,
        stop: StopSignal,
        progress: ProgressKeeper,
        clock: Clock,
        end: Callable[[str], None],
    ) -> None:
        self._ticket = ticket
        self._limit_s = limit_s
        self._stop = stop
        self._progress = progress
        self._end = end
        self._seen = (0, 0)
        self._since: float | None = None
        self._loop = Loop("stall", self.step, clock)

    def __enter__(self) -> StallWatch:
        """Begin, where there is a limit."""
        if self._limit_s is not None:
            with contextlib.suppress(ValueError):  # not the main thread: nobody's alarm is taken
                if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
                    faulthandler.register(signal.SIGALRM, file=sys.stderr, chain=True)
            self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The phase came back."""
        if self._limit_s is not None:
            self._loop.stop(timeout_s=10.0)
            self._alarm(0.0)

    def _signs(self) -> tuple[int, int]:
        return self._stop.looks, self._progress.words

    def step(self, now: float) -> float | None:
        """Look for signs of life.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None when the phase was ended.
        """
        limit = self._limit_s or 0.0
        signs = self._signs()
        if self._since is None or signs != self._seen:
            self._seen, self._since = signs, now
        elif now - self._since >= limit:
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
    """Write where every thread stands to the log, for who mends the simulator."""
    log.error("this is where every thread stands:")
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)


def exit_now(code: int) -> None:
    """End this process and what it started; the hanging thread cannot be asked."""
    from drillyard.system.processes import ProcessId, end, in_group

    me = ProcessId.current()
    if os.getpgrp() == me.pid:
        end([p for p in in_group(me.pid) if p.pid != me.pid], grace_s=0.0)
    os._exit(code)
