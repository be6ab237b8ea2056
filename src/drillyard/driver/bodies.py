"""The phases of a session, for what shows them. The session does the work of each phase once.

A view (such as Prefect) joins the body of a phase that it shows. That reports to the session that
the phase is shown, and waits for its end. An attempt that is lost ends the wait with an error, so
that the view can show the next one as a retry; the session waits for none of this. A session waits
for a view only for a limited time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from drillyard.backend import Lease
from drillyard.errors import Bug, WorkerLost
from drillyard.mailbox.records import Accepted, TrialOutcome, WorkerRecord

if TYPE_CHECKING:
    from drillyard.driver.outcome import Outcome

R = TypeVar("R")

TRIAL = "trial"
"""Kind of body that shows a trial of a study."""


class ReadyWorkers(NamedTuple):
    """The result of the set-up: the workers that are ready."""

    workers: list[WorkerRecord]


Result: TypeAlias = Lease | ReadyWorkers | Accepted | TrialOutcome | None
"""What a phase results in, in the order of the phases; None for a teardown."""


class Body:
    """One phase of a session, or one phase of one of its runs.

    Attributes:
        phase: ``provision``, ``setup``, ``train``, ``evaluate``, ``store``, ``teardown``, or
            ``trial``.
        key: Its id in this session: the phase, a ticket, or a trial.
        title: Its name for people.
        run: Its run; empty for a phase without one.
        before: Key of the body before it in its run; None for the first.
        future: Its result.
        delivered: Whether ``join`` has returned or raised the result.
    """

    def __init__(
        self, phase: str, key: str, title: str = "", run: str = "", before: str | None = None
    ) -> None:
        self.phase = phase
        self.key = key
        self.title = title or key
        self.run = run
        self.before = before
        self.future: Future[Result] = Future()
        self.joined = threading.Event()
        self.delivered = False
        self._on_join: Callable[[], None] = lambda: None
        self._lost: deque[WorkerLost] = deque()
        self._news = threading.Condition()
        self.future.add_done_callback(lambda _: self._tell())

    def join(self) -> Result:
        """Report that the phase is shown, and wait for its end, or for the end of an attempt.

        Raises:
            WorkerLost: An attempt was lost, and another one follows: call again. Each lost
                attempt is raised once.
            DrillyardError: The phase failed.
        """
        self.joined.set()
        self._on_join()
        with self._news:
            self._news.wait_for(lambda: self._lost or self.done)
            if self._lost:
                raise self._lost.popleft()
        self.delivered = True
        return self.future.result()

    def lose(self, error: WorkerLost) -> None:
        """Add an attempt that was lost, and that another one follows.

        Args:
            error: What ended it.
        """
        self._lost.append(error)
        self._tell()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def join_for(self, kind: type[R]) -> R:
        """``join``, for a phase whose result is of a known type.

        Args:
            kind: Type of the result.

        Raises:
            DrillyardError: The phase failed.
        """
        result = self.join()
        if not isinstance(result, kind):
            raise Bug(f"{self.key} resulted in {result!r}, not in a {kind.__name__}")
        return result

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.future.done()

    def wakes(self, call: Callable[[], None]) -> None:
        """Set what is called when it is joined."""
        self._on_join = call


class Bodies:
    """The bodies that a session has offered and its view has not taken yet, in order.

    A study has thousands, so that none is kept after it was taken.

    Attributes:
        outcome: How the session ended, once its report is built.
    """

    def __init__(self) -> None:
        self.outcome: Future[Outcome] = Future()
        self._offered: deque[Body] = deque()
        self._closed = False
        self._news = threading.Condition()

    def offer(self, body: Body) -> None:
        """Add a body for the view; after ``close``, nothing is added."""
        with self._news:
            if not self._closed:
                self._offered.append(body)
                self._news.notify_all()

    def close(self) -> None:
        """End the list: no body follows, or nothing shows them."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def follow(self) -> Iterator[Body]:
        """Take each body as it is offered, until the list ends."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._offered or self._closed)
                if not self._offered:
                    return
                body = self._offered.popleft()
            yield body
