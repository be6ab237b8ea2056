"""A watchdog for code that may hang.

A simulator is foreign code: it may never return from a step. The caller reports each action before
it begins, and the watchdog ends the wait if nothing is reported for too long.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import IO, Generic, TypeVar

from drillyard.errors import DrillyardError
from drillyard.system import stack_dump
from drillyard.system.operating_system import (
    LINUX,
    group_of,
    lead_group,
    signal_group,
    start_context,
)

_TICK_S = 0.3
T = TypeVar("T")
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
_receiver: ContextVar[Callable[[object], None] | None] = ContextVar("receiver", default=None)


class HangError(Exception):
    """Nothing was reported for too long.

    Args:
        doing: The last reported action.
        limit_s: The time limit in seconds.
        where: The line of the user's code that it is in, where that is known.
    """

    def __init__(self, doing: str, limit_s: float, where: str | None = None) -> None:
        at = f" ({where})" if where else ""
        super().__init__(f"no sign of life for {limit_s:g} s in: {doing}{at}")
        self.doing = doing
        self.parts: list[object] = []
        """What the work handed over before."""


class ChildDied(Exception):
    """The process ended without a result.

    Args:
        doing: The last reported action.
        exitcode: Exit code as in ``multiprocessing``: negative for a signal.
    """

    def __init__(self, doing: str, exitcode: int | None) -> None:
        how = f"code {exitcode}"
        if exitcode is not None and exitcode < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-exitcode).name
        super().__init__(f"it ended the process with {how} in: {doing}")
        self.doing = doing
        self.parts: list[object] = []
        """What the work handed over before."""


class ChildTraceback(Exception):
    """Where the child raised: the cause of an exception that ``run_watched`` raises in its stead.

    Args:
        text: The traceback, as Python prints it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def report_activity(doing: str) -> None:
    """Report the next action; does nothing without a watchdog."""
    listener = _listener.get()
    if listener is not None:
        listener(doing)


def hand_over(part: object) -> None:
    """Keep a part of the result, even if the work hangs or crashes later.

    Args:
        part: Is pickled if the work runs in a child; it is in ``parts`` of the exception.
    """
    receiver = _receiver.get()
    if receiver is not None:
        receiver(part)


@contextlib.contextmanager
def listen(listener: Callable[[str], None]) -> Iterator[None]:
    """Pass on the reports of this thread while the block runs."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def keep_alive(doing: str) -> Iterator[None]:
    """Report activity while the block runs: for long work of drillyard, which does not hang."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    over = threading.Event()

    def tick() -> None:
        while not over.wait(_TICK_S):
            listener(doing)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_watched(
    work: Callable[[], T],
    limit_s: float | None,
    first: str,
    output: Output | None = None,
) -> T:
    """Run something that may hang or crash.

    It runs in a forked child if that is safe. That also survives native code that crashes or never
    releases the interpreter. If this process has other threads (a notebook, an orchestrator), it
    runs in a thread, which stays behind if it hangs.

    Args:
        work: The function to call; its result is sent through a pipe.
        limit_s: Longest time between two reports, in seconds; None: no limit.
        first: The action before the first report.
        output: Takes what the work prints; None: it goes to standard error.

    Raises:
        HangError: It hangs.
        ChildDied: It ended the child.
        BaseException: The exception of the work itself. From a child, errors of drillyard arrive
            complete, others as the nearest built-in class with the message. The child's traceback
            is the cause.
    """
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    if LINUX and alone:
        return run_in_child(work, limit_s, first, output)
    if output is None:
        return _in_thread(work, limit_s, first)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        return _in_thread(work, limit_s, first)


class Output(io.TextIOBase):
    """Counts what was printed, and keeps its beginning."""

    KEPT = 2000
    """Characters."""

    def __init__(self) -> None:
        self.size = 0
        """Length of everything that was printed, in characters or bytes."""
        self.head = ""

    def write(self, text: str) -> int:
        """Takes a text."""
        self.size += len(text)
        if len(self.head) < self.KEPT:
            self.head += text[: self.KEPT - len(self.head)]
        return len(text)


def run_in_child(
    work: Callable[[], T], limit_s: float | None, first: str, output: Output | None = None
) -> T:
    """As ``run_watched``, in a forked child; what it reports is reported here too."""
    context = start_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    printed, prints = os.pipe() if output is not None else (None, None)
    stacks = tempfile.TemporaryFile()  # noqa: SIM115
    child = context.Process(target=_child, args=(work, theirs, ours, prints, stacks))
    child.start()
    theirs.close()
    if prints is not None:
        os.close(prints)
    doing, parts = first, list[object]()
    try:
        while True:
            if not _wait(ours, printed, output, limit_s):
                raise _with(HangError(doing, limit_s or 0.0, _place(child, stacks)), parts)
            try:
                kind, value = ours.recv()
            except (EOFError, OSError):
                child.join(5.0)
                raise _with(ChildDied(doing, child.exitcode), parts) from None
            if kind == "activity":
                doing = value
                report_activity(doing)
            elif kind == "part":
                parts.append(value)
            elif kind == "result":
                return value  # type: ignore[no-any-return]
            else:
                error, trace = value
                raise error from ChildTraceback(trace)
    finally:
        _end(child)
        ours.close()
        stacks.close()
        if printed is not None and output is not None:
            _drain(printed, output)
            os.close(printed)


_Ended = TypeVar("_Ended", HangError, ChildDied)


def _with(error: _Ended, parts: list[object]) -> _Ended:
    error.parts = parts
    return error


def _wait(
    ours: Connection, printed: int | None, output: Output | None, limit_s: float | None
) -> bool:
    """Waits for a report, and takes what is printed meanwhile; False: none in time."""
    if printed is None or output is None:
        return ours.poll(limit_s)
    until = None if limit_s is None else time.monotonic() + limit_s
    waiting: list[Connection | int] = [ours, printed]
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        ready = wait(waiting, left)
        if ours in ready:
            return True
        if not ready or left == 0.0:
            return False
        if not _take(printed, output):
            waiting = [ours]  # the child closed its output, and still works


def _take(printed: int, output: Output) -> bool:
    data = os.read(printed, 1 << 16)
    output.write(data.decode(errors="replace"))
    return bool(data)


def _drain(printed: int, output: Output) -> None:
    """Takes what is left; a grandchild may keep the pipe open, so it does not wait."""
    os.set_blocking(printed, False)
    with contextlib.suppress(BlockingIOError):
        while _take(printed, output):
            pass


def _place(child: BaseProcess, stacks: IO[bytes]) -> str | None:
    """The line of the user's code in which the child hangs."""

    def read() -> str:
        # The child shares the position in the file, and writes at its end.
        return os.pread(stacks.fileno(), 1 << 20, 0).decode(errors="replace")

    return stack_dump.place_of(child.pid, read) if child.pid else None


def _child(
    work: Callable[[], object],
    answer: Connection,
    theirs: Connection,
    prints: int | None,
    stacks: IO[bytes],
) -> None:
    theirs.close()
    stack_dump.arm(stacks)
    lead_group()
    if prints is not None:
        os.dup2(prints, 2)
        os.close(prints)
    os.dup2(2, 1)  # its output must not mix with the command's output, which may be JSON
    if prints is not None:  # a notebook, or a test, has replaced these objects
        sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115
    _receiver.set(lambda part: answer.send(("part", part)))
    try:
        with listen(lambda doing: answer.send(("activity", doing))):
            result = work()
        sys.stdout.flush()
        sys.stderr.flush()
        answer.send(("result", result))
    except BaseException as error:
        answer.send(("raised", (_portable(error), traceback.format_exc())))


def _portable(error: BaseException) -> BaseException:
    """An error that the parent can rebuild without importing the user's modules."""
    if isinstance(error, DrillyardError):
        return error
    kind: type[BaseException] = next(
        k for k in type(error).__mro__ if k.__module__ == builtins.__name__
    )
    try:
        args = error.__reduce__()[1]  # `args` alone lacks the file name of an OSError
        if kind is type(error) and all(type(a) in (str, int, float, type(None)) for a in args):
            return kind(*args)
        return kind(f"{type(error).__name__}: {error}")
    except Exception:  # its constructor takes other arguments, or it cannot be printed
        return RuntimeError(f"{type(error).__name__}; its message is in the traceback")


def _end(child: BaseProcess) -> None:
    if child.pid and group_of(child.pid) == child.pid:
        signal_group(child.pid)
    child.kill()
    child.join()


@dataclass
class _State(Generic[T]):
    """What a watched thread has reported.

    Attributes:
        doing: The last reported action.
        count: Number of reports.
        result: Empty, or the result as its only item.
        parts: What was handed over.
        error: The exception of the work.
    """

    doing: str
    count: int = 0
    result: list[T] = field(default_factory=list)
    parts: list[object] = field(default_factory=list)
    error: BaseException | None = None


def _in_thread(work: Callable[[], T], limit_s: float | None, first: str) -> T:
    heard = threading.Condition()
    state: _State[T] = _State(first)

    def note(doing: str) -> None:
        with heard:
            state.doing = doing
            state.count += 1
            heard.notify()

    def body() -> None:
        _receiver.set(state.parts.append)
        with listen(note):
            try:
                state.result.append(work())
            except BaseException as error:
                state.error = error
        note(first)

    thread = threading.Thread(target=body, name="check", daemon=True)
    with heard:
        thread.start()
        while not state.result and state.error is None:
            count = state.count
            if not heard.wait(limit_s) and state.count == count:
                where = stack_dump.place_of_thread(thread.ident)
                raise _with(HangError(state.doing, limit_s or 0.0, where), state.parts)
    if state.error is not None:
        raise state.error
    return state.result[0]
