"""From what happened to an attempt to the record that says so."""

from __future__ import annotations

import errno
import signal
import traceback
from pathlib import Path

from drillyard.errors import (
    DrillyardError,
    InfrastructureError,
    OutOfMemory,
    Stopped,
    TimedOut,
)
from drillyard.mailbox.records import Claim, Ending
from drillyard.mailbox.status import STATUS_OF, Cause, Status
from drillyard.runs.workload import StopSignal
from drillyard.system import gpu_software
from drillyard.system.clock import Clock
from drillyard.system.kills import KILLED
from drillyard.system.operating_system import ALARM
from drillyard.system.redaction import redact

_MAX_TRACEBACK = 20_000
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def succeeded(
    claim: Claim, clock: Clock, message: str = "", status: Status | None = None
) -> Ending:
    """The ending of an attempt whose result was accepted."""
    return Ending(
        ticket=claim.ticket,
        attempt=claim.attempt,
        status=status or Status.SUCCEEDED,
        message=message,
        by=claim.worker,
        ended_at=clock.now(),
    )


def failed(
    claim: Claim,
    clock: Clock,
    cause: Cause,
    message: str,
    *,
    hint: str | None = None,
    trace: str | None = None,
) -> Ending:
    """The ending of an attempt without a result.

    The status is that of the attempt; what becomes of the ticket, ``attempts`` decides.
    """
    status = Status.PREEMPTED if cause is Cause.PREEMPTION else STATUS_OF[cause]
    return Ending(
        ticket=claim.ticket,
        attempt=claim.attempt,
        status=status,
        cause=cause,
        message=redact(message),
        hint=redact(hint) if hint else None,
        traceback=redact(trace)[-_MAX_TRACEBACK:] if trace else None,
        by=claim.worker,
        ended_at=clock.now(),
    )


def of_error(
    claim: Claim, clock: Clock, error: BaseException, stop: StopSignal, scratch: Path
) -> Ending:
    """The ending of an attempt that raised.

    Args:
        claim: The attempt.
        clock: For the stamp.
        error: What came out of the phase.
        stop: Whether a stop was asked for, and why.
        scratch: The local folder of the attempt.
    """
    if isinstance(error, Stopped) and stop.requested:
        cause = stop.cause or Cause.INFRASTRUCTURE
        hint = error.hint
        if cause is Cause.TIME_LIMIT:
            hint = hint or (
                "raise that limit; the same command continues, from the last checkpoint if there "
                "is one"
            )
        return failed(claim, clock, cause, stop.reason or str(error), hint=hint)
    cause, hint = cause_of(error), getattr(error, "hint", None)
    text = str(error) or type(error).__name__
    if not isinstance(error, DrillyardError):
        text = f"{type(error).__name__}: {text}" if str(error) else text
    text = "; ".join([text, *getattr(error, "__notes__", ())])
    old = gpu_software.too_old(text)
    if old is not None:  # of the machine, so no other attempt there ends in another way
        text, hint = old, gpu_software.HINT
    if cause is Cause.USER_ERROR and stop.requested and stop.cause is Cause.PREEMPTION:
        # SIGTERM reaches the user's programs too: they fail, or leave half of a result. An error
        # that has nothing to do with it happens again in the next attempt.
        cause, text, hint = Cause.PREEMPTION, f"{stop.reason}; it ended with: {text}", None
    if not scratch.is_dir():
        # Whatever the user's code did, it could not have gone well.
        cause, text = Cause.INFRASTRUCTURE, f"{scratch} was deleted while it worked there: {text}"
        hint = "something cleans up that folder: give the backend another place for scratch files"
    trace = "".join(traceback.format_exception(error))
    return failed(claim, clock, cause, text, hint=hint, trace=trace)


def cause_of(error: BaseException) -> Cause:
    """The cause that an exception stands for."""
    if isinstance(error, TimedOut):
        return Cause.TIME_LIMIT
    if isinstance(error, OutOfMemory):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, InfrastructureError | Stopped):
        return Cause.INFRASTRUCTURE
    if isinstance(error, DrillyardError):
        return Cause.USER_ERROR
    # torch raises OutOfMemoryError (GPU) or RuntimeError (CPU); it is not imported for a look.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Cause.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _NO_MEMORY):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return Cause.INFRASTRUCTURE
    return Cause.USER_ERROR


def of_exit(
    claim: Claim, clock: Clock, exitcode: int | None, out_of_memory: bool, inside: str = ""
) -> Ending:
    """The ending of an attempt whose process ended without a word of its own.

    Args:
        claim: The attempt.
        clock: For the stamp.
        exitcode: As ``multiprocessing`` tells it: negative for a signal.
        out_of_memory: The kernel ended processes for want of memory meanwhile.
        inside: The step of a simulator that it did not come back from; see ``whereabouts``.
    """
    where = f", in {inside}" if inside else ""
    if out_of_memory and exitcode in KILLED:
        return failed(
            claim,
            clock,
            Cause.OUT_OF_MEMORY,
            "the system ended the process: out of memory",
            hint="use fewer copies of the simulator, a smaller buffer, or fewer workers",
        )
    if ALARM is not None and exitcode == -ALARM:
        return failed(
            claim,
            clock,
            Cause.TIME_LIMIT,
            f"it hangs in code that never lets go of the interpreter{where}, and was ended by "
            "budget.stall_s",
            hint="the log shows the stack of each thread; `drillyard check` steps the simulator",
        )
    if exitcode is not None and exitcode < 0:
        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        message = f"the process was ended by {name}{where}"
    else:
        message = f"the process ended with code {exitcode} before it had a result{where}"
    return failed(
        claim,
        clock,
        Cause.INFRASTRUCTURE,
        message,
        hint="the log of the attempt has its last words; native code of a simulator may crash so",
    )
