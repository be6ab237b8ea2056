"""Gives the points of an experiment's curves to callbacks while its runs are running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.ticket_states import TicketState

STREAMS = ("train", "evaluation")
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
            found = self.metrics.get(name)
            if isinstance(found, int | float):
                return float(found)
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
    """

    def __init__(
        self,
        mailbox: Mailbox,
        states: Callable[[], Mapping[str, TicketState]],
        callbacks: Sequence[Callback],
        streams: Sequence[str] = STREAMS,
    ) -> None:
        self._mailbox = mailbox
        self._states = states
        self._callbacks = callbacks
        self._streams = streams
        self._seen: dict[tuple[str, str], int] = {}
        self._segments: dict[str, frozenset[str]] = {}
        self._seeds: dict[str, int] = {}
        self._complete: set[str] = set()
        """Runs that were read after their training had ended: not looked at again."""

    def poll(self) -> bool:
        """Deliver what is new.

        Returns:
            False once a callback wants to stop.
        """
        if not self._callbacks:
            return True
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
        from drillyard.metrics.streams import read_stream

        for state in self._states().values():
            run = state.ticket.run
            if state.ticket.phase is not Phase.TRAIN or run in self._complete:
                continue
            if run not in self._seeds:
                self._seeds[run] = self._mailbox.run(run).seed
            prefix = self._mailbox.key(f"runs/{run}/attempts/")
            segments = frozenset(
                i.key for i in self._mailbox.store.list(prefix) if "/streams/" in i.key
            )
            if segments != self._segments.get(run):
                for stream in self._streams:
                    # A resumed attempt writes lines again that were cut: same numbers and values.
                    first = self._seen.get((run, stream), 0)
                    for line in read_stream(self._mailbox, run, stream)[first:]:
                        self._seen[(run, stream)] = line["seq"] + 1
                        yield Point(
                            self._mailbox.experiment,
                            run,
                            self._seeds[run],
                            stream,
                            line["step"],
                            line["metrics"],
                            line["time"],
                        )
                self._segments[run] = segments
            if state.status.ended:  # seen before its lines were read, so that none comes after
                self._complete.add(run)
