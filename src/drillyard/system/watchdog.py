"""A watchdog for code that may hang.

A simulator is foreign code: it may never return from a step. The caller reports each action before
it begins, and the watchdog ends the wait if nothing is reported for too long.
"""

from __future__ import annotations

import builtins
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from drillyard.errors import DrillyardError

_TICK_S = 0.3
T = TypeVar("T")
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


class HangError(Exception):
    """Nothing was reported for too long.

    Args:
        doing: The last reported action.
        limit_s: The time limit in seconds.
    """

    def __init__(self, doing: str, limit_s: float) -> None:
        super().__init__(f"no sign of life for {limit_s:g} s in: {doing}")
        self.doing = doing


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


def run_watched(work: Callable[[], T], limit_s: float | None, first: str) -> T:
    """Run something that may hang or crash.

    It runs in a forked child if that is safe. That also survives native code that crashes or never
    releases the interpreter. If this process has other threads (a notebook, an orchestrator), it
    runs in a thread, which stays behind if it hangs.

    Args:
        work: The function to call; its result is sent through a pipe.
        limit_s: Longest time between two reports, in seconds; None: no limit.
        first: The action before the first report.

    Raises:
        HangError: It hangs.
        ChildDied: It ended the child.
        BaseException: The exception of the work itself. From a child, errors of drillyard arrive
            complete, others as the nearest built-in class with the message. The child's traceback
            is the cause.
    """
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    if sys.platform == "linux" and alone:
        return _in_child(work, limit_s, first)
    return _in_thread(work, limit_s, first)


def _in_child(work: Callable[[], T], limit_s: float | None, first: str) -> T:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    child = context.Process(target=_child, args=(work, theirs, ours))
    child.start()
    theirs.close()
    doing = first
    try:
        while True:
            if not ours.poll(limit_s):
                raise HangError(doing, limit_s or 0.0)
            try:
                kind, value = ours.recv()
            except (EOFError, OSError):
                child.join(5.0)
                raise ChildDied(doing, child.exitcode) from None
            if kind == "activity":
                doing = value
            elif kind == "result":
                return value  # type: ignore[no-any-return]
            else:
                error, trace = value
                raise error from ChildTraceback(trace)
    finally:
        _end(child)
        ours.close()


def _child(work: Callable[[], object], answer: Connection, theirs: Connection) -> None:
    theirs.close()
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # so that everything that it starts is ended with it
    os.dup2(2, 1)  # its output must not mix with the command's output, which may be JSON
    try:
        with listen(lambda doing: answer.send(("activity", doing))):
            answer.send(("result", work()))
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
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if child.pid and os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()


@dataclass
class _State(Generic[T]):
    """What a watched thread has reported.

    Attributes:
        doing: The last reported action.
        count: Number of reports.
        result: Empty, or the result as its only item.
        error: The exception of the work.
    """

    doing: str
    count: int = 0
    result: list[T] = field(default_factory=list)
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
                raise HangError(state.doing, limit_s or 0.0)
    if state.error is not None:
        raise state.error
    return state.result[0]
