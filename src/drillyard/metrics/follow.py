"""Gives the points of an experiment's curves to callbacks while its runs are running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import pace
from drillyard.system.clock import SYSTEM

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.ticket_states import TicketState
    from drillyard.metrics.reader import StreamReader

STREAMS = ("train", "evaluation")
POLL_PACES = 5.0
"""Pause between two polls, as a multiple of the store's pace."""
_HEADLINE = ("eval/mean_reward", "rollout/ep_rew_mean")


class StopRun(Exception):
    """Raised by a callback to stop the experiment. Its results are kept, and it can be resumed."""


@dataclass(frozen=True)
class Point:
    """One point of a curve, during or after its run."""

    experiment: str
    run: str
    seed: int
    stream: str
    """``train`` or ``evaluation``; a workload may have others."""
    step: int
    metrics: JsonObject
    time: float
    """Seconds since the epoch, UTC."""

    @property
    def value(self) -> float:
        """The headline: mean return of an evaluation, else of training episodes; NaN without."""
        for name in _HEADLINE:
            number = self.metrics.get(name)
            if isinstance(number, int | float):
                return float(number)
        numbers = [v for v in self.metrics.values() if isinstance(v, int | float)]
        return float(numbers[0]) if len(numbers) == 1 else float("nan")


Callback = Callable[[Point], object]
"""Gets each point once, in order. Returns False, or raises ``StopRun``, to stop."""


class Feed:
    """Hands new lines of an experiment's streams to callbacks.

    Args:
        mailbox: The experiment.
        states: Returns the last known tickets of the experiment; in a study their number grows.
        callbacks: The callbacks.
        streams: The streams to follow.
        monotonic: The time, in seconds.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        states: Callable[[], Mapping[str, TicketState]],
        callbacks: Sequence[Callback],
        streams: Sequence[str] = STREAMS,
        monotonic: Callable[[], float] = SYSTEM.monotonic,
    ) -> None:
        self._mailbox = mailbox
        self._monotonic = monotonic
        self._pause_s = POLL_PACES * pace(mailbox.store)
        self._next_at = 0.0
        self._states = states
        self._callbacks = callbacks
        self._streams = streams
        self._readers: dict[str, StreamReader] = {}
        self._seeds: dict[str, int] = {}
        self._complete: set[str] = set()
        """Runs that were read after their training had ended: not looked at again."""

    def poll(self, *, everything: bool = False) -> bool:
        """Deliver what is new; a store that should not be asked too often is spared.

        Args:
            everything: Ask in any case.

        Returns:
            False once a callback wants to stop.
        """
        now = self._monotonic()
        if not self._callbacks or (now < self._next_at and not everything):
            return True
        self._next_at = now + self._pause_s
        return all(self._deliver(point) for point in self._new())

    def _deliver(self, point: Point) -> bool:
        try:
            # Every callback gets the point, also after one of them said stop.
            answers = [callback(point) for callback in self._callbacks]
        except StopRun:
            return False
        return all(answer is None or bool(answer) for answer in answers)

    def _new(self) -> Iterator[Point]:
        from drillyard.mailbox.records import Phase
        from drillyard.metrics.reader import StreamReader

        for state in self._states().values():
            run = state.ticket.run
            if state.ticket.phase is not Phase.TRAIN or run in self._complete:
                continue
            if state.attempt is None and not state.status.ended:
                continue  # no worker has begun it
            if run not in self._seeds:
                self._seeds[run] = self._mailbox.run(run).seed
                self._readers[run] = StreamReader(self._mailbox, run)
            reader = self._readers[run]
            for stream in self._streams if reader.look() else ():
                for line in reader.new(stream):
                    yield Point(
                        self._mailbox.experiment,
                        run,
                        self._seeds[run],
                        stream,
                        line["step"],
                        line["metrics"],
                        line["time"],
                    )
            if state.status.ended:  # seen before its lines were read, so that none comes after
                self._complete.add(run)
                del self._readers[run]
