"""What the product finds in place of ``threading``: fibers, and locks that fibers wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

from tests.simulation.patches import world
from tests.simulation.world import Fiber


class Event:
    """See ``threading.Event``."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Fiber] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and resume who waits."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for fiber in waiting:
            world().wake(fiber)

    def clear(self) -> None:
        """Unset it."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it."""
        if not self._set:
            fiber = world().current
            assert fiber is not None
            self._waiting.append(fiber)
            try:
                world().sleep(1e9 if timeout is None else timeout)
            finally:
                if fiber in self._waiting:
                    self._waiting.remove(fiber)
        return self._set


class RLock:
    """See ``threading.RLock``: fibers of one process exclude each other."""

    reentrant = True

    def __init__(self) -> None:
        self._owner: Fiber | None = None
        self._depth = 0
        self._waiting: list[Fiber] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        me = world().current
        while self._depth and not (self.reentrant and self._owner is me):
            if not blocking:
                return False
            assert me is not None
            self._waiting.append(me)
            world().sleep(1e9)
        self._owner, self._depth = me, self._depth + 1
        return True

    def release(self) -> None:
        """Give it back."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            waiting, self._waiting = self._waiting, []
            for fiber in waiting:
                world().wake(fiber)

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._depth > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Lock(RLock):
    """See ``threading.Lock``."""

    reentrant = False


class Condition:
    """See ``threading.Condition``; only what is done under it without waiting in between."""

    def __init__(self, lock: object = None) -> None:
        self._news = Event()

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for news."""
        self._news.clear()
        return self._news.wait(timeout)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait for a condition."""
        end = world().time + (1e9 if timeout is None else timeout)
        while not (found := predicate()) and world().time < end:
            self.wait(end - world().time)
        return found

    def notify_all(self) -> None:
        """Tell who waits."""
        self._news.set()

    notify = notify_all


class Thread:
    """See ``threading.Thread``."""

    def __init__(
        self,
        target: Callable[..., object] | None = None,
        args: tuple[object, ...] = (),
        name: str = "",
        daemon: bool = False,
        kwargs: dict[str, object] | None = None,
    ) -> None:
        self._body = lambda: target(*args, **(kwargs or {})) if target else self.run()
        self.name = name
        self._fiber: Fiber | None = None

    def run(self) -> None:
        """The body."""

    def start(self) -> None:
        """Start it, in the present process."""
        current = world().current
        assert current is not None
        self._fiber = world().thread(current.process, self._body)
        self._fiber.thread = self  # type: ignore[attr-defined]

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._fiber is not None and not self._fiber.over

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        fiber, me = self._fiber, world().current
        if fiber is None or fiber.over or me is None:
            return
        fiber.joiners.append(me)
        world().sleep(1e9 if timeout is None else timeout)
        if me in fiber.joiners:
            fiber.joiners.remove(me)


class Pool(Executor):
    """See ``ThreadPoolExecutor``: ``map`` works side by side; a submitted task is done at once."""

    def __init__(self, max_workers: int = 1, *_: object, **__: object) -> None:
        self._most = max_workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it now."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done

    def map(self, fn: Callable[..., Any], *items: Iterable[Any], **_: Any) -> Any:
        """Do it for each, in fibers; results and errors in order."""
        waiting = list(enumerate(zip(*items, strict=False)))
        done: dict[int, Future[Any]] = {}

        def work() -> None:
            while waiting:
                number, each = waiting.pop(0)
                done[number] = self.submit(fn, *each)

        many = len(waiting)
        helpers = [Thread(target=work) for _ in range(min(self._most, many) - 1)]
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
        return iter([done[number].result() for number in range(many)])


class Module:
    """In place of the module ``threading``."""

    Event, Lock, RLock, Condition, Thread = Event, Lock, RLock, Condition, Thread

    @staticmethod
    def current_thread() -> object:
        """The present thread."""
        return getattr(world().current, "thread", world().current)

    @staticmethod
    def main_thread() -> object:
        """Never the present one, so that nothing touches signals."""
        return threading.main_thread()

    get_ident = staticmethod(threading.get_ident)
    active_count = staticmethod(threading.active_count)
