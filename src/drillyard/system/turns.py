"""Threads of one process that work in turns, each as if the process were its own.

Several runs in one process share what a process has once: the generators of random numbers, the
working folder, and the output. So only one of them works at a time, and what it leaves there is
put back when its turn comes again. Turns change only in ``meet``, where each hands in its part of
a computation, and the last one to arrive computes all parts together.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Work: TypeAlias = "Callable[[Sequence[Any]], Sequence[Any]]"
"""From the parts of several members to their results, in the same order."""
LOOK_S = 1.0
"""How often a member that waits shows that it is alive."""


class _Part(NamedTuple):
    key: Hashable
    given: object
    work: Work


class Turns:
    """The members of one process.

    Args:
        size: How many there are at the beginning. Those that leave are not replaced, and each
            has to be a member once.
        room: How many parts one computation has room for; default ``size``.
    """

    def __init__(self, size: int, room: int | None = None) -> None:
        self.room = room or size
        self.folder = os.getcwd()
        self._changed = threading.Condition()
        self._present = set(range(size))
        self._parts: dict[int, _Part] = {}
        self._results: dict[int, object] = {}
        self._busy = False
        """A member has its turn, or computes for all."""

    @contextmanager
    def member(self, number: int, output: Path, alive: Callable[[], object]) -> Iterator[None]:
        """Be a member in this thread; its first turn begins when no other has one.

        Args:
            number: From 0.
            output: File for what the process prints during its turns.
            alive: Called once in a while as long as it waits.
        """
        with self._changed:
            while self._busy:
                self._changed.wait()
            self._busy = True
        try:
            me = Member(self, number, output, alive)
            token = _current.set(me)
            try:
                me.put_back()
                yield
            finally:
                _current.reset(token)
                me.close()
        finally:
            with self._changed:
                self._present.remove(number)
                self._busy = False
                self._changed.notify_all()

    def meet(self, me: Member, part: _Part) -> object:
        """See ``Member.meet``."""
        me.take_along()
        with self._changed:
            self._parts[me.number] = part
            self._busy = False
            self._changed.notify_all()
            while self._busy or (me.number not in self._results and not self._all_here()):
                self._changed.wait(LOOK_S)
                me.alive()
            self._busy = True
            parts = {} if me.number in self._results else self._taken()
        if parts:  # without the lock, so that those that wait can show that they are alive
            answers = _computed(parts)
            with self._changed:
                self._results |= answers
                self._changed.notify_all()
        me.put_back()
        result = self._results.pop(me.number)
        if isinstance(result, BaseException):
            raise result
        return result

    def _all_here(self) -> bool:
        return self._parts.keys() == self._present

    def _taken(self) -> dict[int, _Part]:
        parts, self._parts = dict(sorted(self._parts.items())), {}
        return parts


class Member:
    """One of the threads.

    Args:
        turns: Whose member it is.
        number: From 0.
        output: See ``Turns.member``.
        alive: See ``Turns.member``.
    """

    def __init__(
        self, turns: Turns, number: int, output: Path, alive: Callable[[], object]
    ) -> None:
        self.turns, self.number, self.alive = turns, number, alive
        self._output = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._folder = turns.folder
        self._random: list[Callable[[], object]] = []

    def meet(self, key: Hashable, given: object, work: Work) -> Any:
        """Wait until all members that did not leave are here, and compute together.

        Args:
            key: Parts with equal keys are computed by one call.
            given: The part of this member.
            work: Computes parts; that of the first member with this key is called.

        Returns:
            The result of this member's part.

        Raises:
            Exception: What ``work`` raised; each member of the call gets it.
        """
        return self.turns.meet(self, _Part(key, given, work))

    def take_along(self) -> None:
        """End a turn: keep what this thread has in the process."""
        _flush()
        self._folder = os.getcwd()
        python = random.getstate()
        self._random = [lambda: random.setstate(python)]
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if numpy is not None:
            words = numpy.random.get_state()
            self._random.append(lambda: numpy.random.set_state(words))
        if torch is not None:
            drawn = torch.get_rng_state()
            self._random.append(lambda: torch.set_rng_state(drawn))

    def put_back(self) -> None:
        """Begin a turn: put back what this thread had."""
        _flush()
        for descriptor in (1, 2):
            os.dup2(self._output, descriptor)
        os.chdir(self._folder)
        for restore in self._random:
            restore()

    def close(self) -> None:
        """Close its file; the process goes on to print there until the next turn."""
        _flush()
        os.close(self._output)


def current() -> Member | None:
    """The member that this thread is; None in a process that does one thing."""
    return _current.get()


_current: ContextVar[Member | None] = ContextVar("member", default=None)


def _computed(parts: dict[int, _Part]) -> dict[int, object]:
    """The results of all parts; an error of a call is the result of each of its parts."""
    results: dict[int, object] = {}
    for key in dict.fromkeys(part.key for part in parts.values()):
        here = {number: part for number, part in parts.items() if part.key == key}
        first = next(iter(here.values()))
        try:
            answers = first.work([part.given for part in here.values()])
            results |= dict(zip(here, answers, strict=True))
        except Exception as error:
            results |= dict.fromkeys(here, error)
    return results


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
